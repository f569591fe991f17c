//! Floor 2: data structures, each usable alone; none knows of caches or shards.

pub(crate) mod breaker;
pub(crate) mod backlog;
pub(crate) mod budget;
pub(crate) mod credit;
pub(crate) mod eviction;
pub(crate) mod flight;
pub(crate) mod group;
pub(crate) mod kept;
pub(crate) mod ledger;
pub(crate) mod moments;
pub(crate) mod notifier;
pub(crate) mod outgoing;
pub(crate) mod reservation;
pub(crate) mod slots;
pub(crate) mod stack;
pub(crate) mod table;
pub(crate) mod tags;
pub(crate) mod turn;
pub(crate) mod waiter;
pub(crate) mod watches;
pub(crate) mod weights;
pub(crate) mod written;
