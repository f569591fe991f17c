//! The argument of removal listeners: a value that left, and why.

/// A value that left the cache, as [`on_removal`](crate::CacheBuilder::on_removal) is told of it.
///
/// The listener owns the key and the value: it drops what it does not keep, outside of all locks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removal<K, V> {
    /// The key of the value.
    pub key: K,
    /// The value itself.
    pub value: V,
    /// Why it left.
    pub cause: RemovalCause,
}

/// Why a value left the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// A newer value of the same key took its place while it was still fresh or servable.
    Replaced,
    /// `remove`, `remove_if`, `clear`, or the removal of one of its tags removed it; or a write at the source
    /// did, or a time to live of zero; or a load said that there is no such value.
    Removed,
    /// Its life was over; the cause is the same whatever frees it (an insert, `sweep`, the cache's own thread, a
    /// newer value of the key). Or it was written with a time to live of zero and not stored, which
    /// [`Stats`](crate::Stats) does not count.
    Expired,
    /// It had to make room for others.
    Evicted,
    /// It was not stored, because it alone weighs more than the whole cache may.
    Rejected,
}
