//! The update itself: which campaign is accepted, with whose consent, and how it is installed.

pub mod acceptance;
pub mod consent;
pub(crate) mod download;
pub mod fetch;
pub(crate) mod install;
pub mod installer;
pub(crate) mod operation;
pub(crate) mod partial_package;
