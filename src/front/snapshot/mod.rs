//! Warm restarts: what a cache holds, written down and read again.

pub(crate) mod error;
mod file;
mod frame;
pub(crate) mod options;
pub(crate) mod restore;
pub(crate) mod save;
