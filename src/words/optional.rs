//! "Not found" as an answer instead of an error.

use super::error::LoadError;

/// Makes "not found" an answer: [`optional`](Self::optional), for the results of calls that load one key.
///
/// [`get_or_load_optional`](crate::Cache::get_or_load_optional) and its async form return an `Option` by themselves,
/// and calls for many keys list what is missing. All other calls that load report a value that the source does
/// not have as [`LoadError::NotFound`], and this makes an `Option` of it.
///
/// ```
/// use larder::{Cache, OptionalExt};
/// use std::{io, time::Duration};
///
/// # fn select(id: u64) -> io::Result<Option<String>> { Ok((id == 1).then(|| "Ada".to_owned())) }
/// let users = Cache::<u64, String>::builder()
///     .max_entries(1_000)
///     .negative_ttl(Duration::from_secs(5))
///     .build_loading_fn(|id: &u64| select(*id))?;
///
/// assert_eq!(users.load(&1).optional()?, Some("Ada".to_owned()));
/// assert_eq!(users.load(&7).optional()?, None);
/// let tagged = users.at(&7).tag("staff").load(|_| select(7)).optional()?;
/// assert!(tagged.is_none());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// With a [`fallback`](crate::At::fallback), "not found" is still that: it is no failure, and `None` here.
pub trait OptionalExt<T, E>: sealed::Sealed {
    /// Returns `Ok(None)` for [`LoadError::NotFound`], and everything else as it is.
    ///
    /// # Errors
    ///
    /// Every [`LoadError`] but `NotFound`.
    fn optional(self) -> Result<Option<T>, LoadError<E>>;
}

impl<T, E> OptionalExt<T, E> for Result<T, LoadError<E>> {
    fn optional(self) -> Result<Option<T>, LoadError<E>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(LoadError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

mod sealed {
    use super::LoadError;

    /// So that the trait can get further methods.
    pub trait Sealed {}

    impl<T, E> Sealed for Result<T, LoadError<E>> {}
}
