//! Floor 5: the public handles (caches, builders of calls, queues, tiers), and the two ways to wait.

pub(crate) mod at;
mod attempt;
pub(crate) mod background;
// not with loom, which has no named threads; shuttle explores it
#[cfg(not(larder_loom))]
pub(crate) mod behind;
pub(crate) mod blocking;
pub(crate) mod cache;
mod call;
pub(crate) mod entries;
pub(crate) mod future;
pub(crate) mod gather;
#[cfg(feature = "http")]
pub(crate) mod http;
pub(crate) mod guard;
mod inspect;
pub(crate) mod invalidator;
pub(crate) mod loader;
pub(crate) mod loading;
pub(crate) mod loading_async;
pub(crate) mod many;
pub(crate) mod outcome;
pub(crate) mod tier;
mod try_alter;
pub(crate) mod warm;
pub(crate) mod writing;
#[cfg(feature = "snapshot")]
pub(crate) mod snapshot;
