//! The result of a closure given to `alter`.

/// What the closure of [`Cache::alter`](crate::Cache::alter) or
/// [`WriteBehind::alter`](crate::WriteBehind::alter) returns: what to do with its key. An `Option` will do if
/// `Keep` is not needed: `Some` puts, `None` removes.
///
/// ```
/// use larder::{Altered, Cache};
///
/// let sent: Cache<String, u32> = Cache::new(100_000);
/// // over the limit nothing is stored any more: otherwise each try would be a write
/// let may_send = |to: &str| {
///     let count = sent.alter(to, |n| match n {
///         Some(5..) => Altered::Keep(Some(6)),
///         n => Altered::Put(n.unwrap_or(0) + 1),
///     });
///     count <= Some(5)
/// };
/// assert_eq!((0..9).filter(|_| may_send("ada")).count(), 5);
/// assert_eq!((sent.get("ada"), sent.stats().insertions), (Some(5), 5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Altered<V> {
    /// Stores this value, in place of the present one.
    Put(V),
    /// Removes the present value; a load that is in flight is not stored. If there is no value, nothing
    /// happens.
    Remove,
    /// Changes nothing, whatever is there by now. The call returns this value to its caller.
    Keep(Option<V>),
}

impl<V> From<Option<V>> for Altered<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Remove, Self::Put)
    }
}
