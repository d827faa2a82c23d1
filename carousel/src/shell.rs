//! The machine: files, sockets, clocks, threads.

pub mod air;
pub mod announce;
pub mod answer;
pub mod capture;
pub mod clock;
pub mod control_http;
pub mod files;
pub mod package_dir;
pub mod plan_checks;
pub mod progress;
pub mod rate;
pub mod repair_encoder;
pub mod send;
pub mod sender;
pub mod serve;
pub mod session_manager;
pub mod session_options;
pub mod udp;
pub mod watch;
