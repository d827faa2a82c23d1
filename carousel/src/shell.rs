//! Where the image server touches the machine: files, sockets, clocks, threads.

pub mod air;
pub mod announce;
pub mod answer;
pub mod capture;
pub mod clock;
pub mod coders;
pub mod control_http;
pub mod files;
pub mod package_dir;
pub mod progress;
pub mod send;
pub mod sender;
pub mod serve;
pub mod session_manager;
pub mod session_options;
pub mod udp;
pub mod watch;
