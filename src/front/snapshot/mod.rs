//! Warm restarts: what a cache holds, written down and read again.

pub(crate) mod error;
pub(crate) mod frame;
pub(crate) mod options;
