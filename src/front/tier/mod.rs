//! The second tier: the calls of a cache with one, the thread that sends it changes, and the two tiers of this
//! crate.

pub(crate) mod ask;
pub(crate) mod calls;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod worker;
