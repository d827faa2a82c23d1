//! Where the image server touches the machine: files, sockets, clocks, threads.

pub mod air;
pub mod answer;
pub mod clock;
pub mod control_http;
pub mod files;
pub mod package_dir;
pub mod progress;
pub mod sender;
pub mod serve;
pub mod udp;
