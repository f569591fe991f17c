//! Floor 4: the core. It owns the locks, the hasher and the clock, and knows nothing of blocking or awaiting.

pub(crate) mod ahead;
pub(crate) mod alter;
pub(crate) mod away;
mod background;
pub(crate) mod batch;
mod counts;
mod events;
pub(crate) mod explain;
pub(crate) mod guard;
pub(crate) mod handlers;
mod heavy;
mod insert;
pub(crate) mod behind;
pub(crate) mod join;
pub(crate) mod lead;
pub(crate) mod look;
pub(crate) mod put;
#[cfg(feature = "snapshot")]
pub(crate) mod restore;
pub(crate) mod solo;
pub(crate) mod store;
pub(crate) mod sweeper;
pub(crate) mod take;
pub(crate) mod tier;
pub(crate) mod unreported;
pub(crate) mod writing;
