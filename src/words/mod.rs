//! Floor 0: the basis of all other floors: time, locks, errors, runtimes, keys.

pub(crate) mod alarms;
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) mod aside;
pub(crate) mod block_on;
pub(crate) mod clock;
pub(crate) mod contain;
pub(crate) mod error;
pub(crate) mod keeper;
#[cfg(not(any(larder_loom, larder_shuttle)))]
pub(crate) mod lock;
pub(crate) mod optional;
pub(crate) mod pool;
#[cfg(any(feature = "snapshot", feature = "redis"))]
pub(crate) mod positional;
pub(crate) mod prefetch;
#[cfg(any(test, not(any(larder_loom, larder_shuttle))))]
pub(crate) mod raw_lock;
pub(crate) mod removal;
pub(crate) mod runtime;
pub(crate) mod stepping;
pub(crate) mod striped;
pub(crate) mod sync;
pub(crate) mod thread_number;
pub(crate) mod tick;
pub(crate) mod tier_key;
pub(crate) mod to_key;
pub(crate) mod unpark;
pub(crate) mod wakers;
pub(crate) mod weak_list;
