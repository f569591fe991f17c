//! What a change by what stands there comes to.

/// What the closure of [`Cache::alter`](crate::Cache::alter), or of
/// [`WriteBehind::alter`](crate::WriteBehind::alter), wants to stand under its key. An `Option` will do
/// where there is nothing to be left alone: `Some` puts, `None` removes.
///
/// ```
/// use larder::{Altered, Cache};
///
/// let sent: Cache<String, u32> = Cache::new(100_000);
/// // who is over the limit is not counted any more, which would write for each try
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
    /// This value, in place of what stands there.
    Put(V),
    /// Nothing: what stands there is removed, and with it a load that is under way. If there was nothing,
    /// nothing happens.
    Remove,
    /// What stands there, whatever that may be by now: nothing happens. The call returns this to its caller.
    Keep(Option<V>),
}

impl<V> From<Option<V>> for Altered<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Remove, Self::Put)
    }
}
