//! Snapshots: saving a cache's entries and restoring them after a restart.

pub(crate) mod error;
mod file;
mod frame;
pub(crate) mod options;
pub(crate) mod restore;
pub(crate) mod save;
