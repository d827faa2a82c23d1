//! The image server: packages, plans, the FLUTE sender.
//!
//! | module | holds |
//! | --- | --- |
//! | [`package`] | choosing a plan's parameters; documents, made, signed, checked |
//! | [`key_file`] | keys and signatures in the forms that tokens hand out |
//! | [`schedule`] | which record is sent next, and where it lies in the plan file |
//! | [`encode`] | image to plan: blocks, tables, paths, by a bounded number of threads |
//! | [`plan_file`] | the head of a plan file |
//! | [`session`], [`fdt`] | the sender core of one FLUTE session and its FDT instances |
//! | [`life`] | start, announcements and end, which all sessions have alike |
//! | [`pacing`] | token bucket on octets |
//! | [`window`], [`place`] | when on air; what is kept over restarts |
//! | [`plain`] | sessions without signatures, for labs and other receivers |
//! | [`control`] | operations of the control API, and which session is on air when |
//! | [`shell`] | files, sockets, clocks, threads, HTTP |
//! | [`cli`] | the command line |
//!
//! Everything that goes on air was made, hashed and written in sending order before the window:
//! the sender copies records and computes nothing, and it holds no key.

pub mod cli;
pub mod control;
pub mod encode;
pub mod failure;
pub mod fdt;
pub mod key_file;
pub mod life;
pub mod pacing;
pub mod package;
pub mod place;
pub mod plain;
pub mod plan_file;
pub mod schedule;
pub mod session;
pub mod shell;
pub mod window;
