//! Turns the outcome of a flight into the result of a caller that waited for it.

use crate::parts::flight::Landing;
use crate::rules::expiry::duration;
use crate::rules::got::{Got, How};
use crate::words::error::LoadError;
use crate::words::optional::OptionalExt;
use std::sync::Arc;

/// The result of a call that may load.
pub(super) type Outcome<V, E> = Result<Got<V>, LoadError<E>>;

/// The result for a caller that waited; `None` if it has to look again, because the flight was abandoned, or
/// failed with an error of another type than the caller's.
pub(super) fn joined<V, E>(landing: Landing<V>) -> Option<Outcome<V, E>>
where
    V: Clone,
    E: Send + Sync + 'static,
{
    Some(match landing {
        Landing::Value(brought) => {
            let value = brought.value.clone();
            let validator = brought.validator.clone();
            let age = duration(brought.age.unwrap_or(0));
            Ok(Got::new(value, How::Joined, age, brought.fresh_for, validator))
        }
        Landing::Missing => Err(LoadError::NotFound),
        Landing::Failed(error) => Err(LoadError::Loader(Arc::downcast(error).ok()?)),
        Landing::Panicked => Err(LoadError::Panicked),
        Landing::TimedOut => Err(LoadError::TimedOut),
        Landing::CircuitOpen => Err(LoadError::CircuitOpen),
        Landing::NothingToRenew => Err(LoadError::NothingToRenew),
        Landing::Abandoned => return None,
    })
}

/// The same for a caller that may have started the load itself (`is_own`), on the cache's runtime.
pub(super) fn followed<V, E>(landing: Landing<V>, is_own: bool) -> Option<Outcome<V, E>>
where
    V: Clone,
    E: Send + Sync + 'static,
{
    let is_kept = matches!(&landing, Landing::Value(brought) if brought.age.is_some());
    let mut outcome = joined(landing)?;
    if let (true, Ok(got)) = (is_own, &mut outcome) {
        got.how = if is_kept { How::Tier } else { How::Loaded };
    }
    Some(outcome)
}

/// The result of `get_or_load_optional_async`.
pub(super) fn optional<V, E>(result: Outcome<V, E>) -> Result<Option<V>, LoadError<E>> {
    plain(result).optional()
}

/// The result of the plain calls: the value alone.
pub(super) fn plain<V, E>(result: Outcome<V, E>) -> Result<V, LoadError<E>> {
    result.map(|got| got.value)
}
