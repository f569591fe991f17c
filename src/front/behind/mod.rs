//! Write-behind: changes that are shown at once and written later.

pub(crate) mod at;
pub(crate) mod builder;
pub(crate) mod core;
pub(crate) mod queue;
#[cfg(feature = "tokio")]
pub(crate) mod tasks;
pub(crate) mod threads;
pub(crate) mod writer;
