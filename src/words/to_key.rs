//! Making an owned key from the borrowed form that a caller looks it up by.

/// Makes an owned key from the borrowed form that a look-up takes: the calls that may store, above all those
/// that load, need one on a miss.
///
/// Every type with `ToOwned<Owned = K>` implements it: `K` itself if it is `Clone`, `str` for `String`, `[T]`
/// for `Vec<T>`, `Path` for `PathBuf`. Implement it for a struct that borrows the parts of a composite key, next
/// to [`Equivalent`](crate::Equivalent): then a hit allocates nothing.
///
/// ```
/// use larder::{Cache, Equivalent, ToKey};
///
/// #[derive(Hash)] // field by field, as the tuple does
/// struct Sensor<'a>(&'a str, u32);
///
/// impl Equivalent<(String, u32)> for Sensor<'_> {
///     fn equivalent(&self, key: &(String, u32)) -> bool {
///         self.0 == key.0 && self.1 == key.1
///     }
/// }
///
/// impl ToKey<(String, u32)> for Sensor<'_> {
///     fn to_key(&self) -> (String, u32) {
///         (self.0.to_owned(), self.1)
///     }
/// }
///
/// let cache: Cache<(String, u32), f64> = Cache::new(1_000);
/// let read = |place, n| cache.get_or_load(&Sensor(place, n), || "19.0".parse::<f64>());
/// assert_eq!(read("cellar", 1).unwrap(), 19.0);
/// assert_eq!(cache.get(&Sensor("cellar", 1)), Some(19.0));
/// ```
///
/// `str` is made into a `String` and into nothing else. So where the keys are `Arc<str>` or `Box<str>`,
/// `get("..")` and `remove("..")` compile, and `get_or_load("..", ..)` does not. A struct around the `&str` does,
/// and allocates on a miss only:
///
/// ```
/// # use larder::{Cache, Equivalent, ToKey};
/// # use std::sync::Arc;
/// #[derive(Hash)]
/// struct Name<'a>(&'a str);
///
/// impl Equivalent<Arc<str>> for Name<'_> {
///     fn equivalent(&self, key: &Arc<str>) -> bool {
///         *self.0 == **key
///     }
/// }
///
/// impl ToKey<Arc<str>> for Name<'_> {
///     fn to_key(&self) -> Arc<str> {
///         self.0.into()
///     }
/// }
///
/// let cache: Cache<Arc<str>, u64> = Cache::new(1_000);
/// assert_eq!(cache.get_or_load(&Name("7"), || "7".parse::<u64>()).unwrap(), 7);
/// assert_eq!(cache.get("7"), Some(7));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made into a key of type `{K}`",
    note = "a call that may store needs an owned key: pass a `&{K}`, or implement `larder::ToKey<{K}>` for `{Self}`"
)]
pub trait ToKey<K> {
    /// Returns the key. It must be equal to `self` by [`Equivalent`](crate::Equivalent), and have the same hash:
    /// otherwise what is loaded is stored under a key that no look-up finds. Not called for a hit. On a miss
    /// every caller calls it, also one that then waits for another caller's load, and again each time it has to
    /// look again. No lock is held meanwhile.
    fn to_key(&self) -> K;
}

impl<K, Q: ?Sized + ToOwned<Owned = K>> ToKey<K> for Q {
    #[inline]
    fn to_key(&self) -> K {
        self.to_owned()
    }
}
