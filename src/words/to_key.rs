//! Making an owned key of what a caller looks it up by.

/// Makes a key of what stands for it in a look-up: the calls that may store, above all those that load, need
/// an owned key on a miss.
///
/// Whatever has `ToOwned<Owned = K>` has it: `K` itself if it is `Clone`, `str` for `String`, `[T]` for
/// `Vec<T>`, `Path` for `PathBuf`. Implement it for a struct that borrows the parts of a composite key, next
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made into a key of type `{K}`",
    note = "a call that may store needs an owned key: pass a `&{K}`, or implement `larder::ToKey<{K}>` for `{Self}`"
)]
pub trait ToKey<K> {
    /// Returns the key. It must be equal to what it was made of, as [`Equivalent`](crate::Equivalent) and
    /// `Hash` have it: else what is loaded is stored under a key that nobody finds. Not called for a hit; else
    /// by each caller, those included that then wait for another one's load, and again each time that one has
    /// to look again. No lock is held meanwhile.
    fn to_key(&self) -> K;
}

impl<K, Q: ?Sized + ToOwned<Owned = K>> ToKey<K> for Q {
    #[inline]
    fn to_key(&self) -> K {
        self.to_owned()
    }
}
