//! The second tier, as callers and the cache's own thread use it.

pub(crate) mod ask;
pub(crate) mod calls;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod worker;
