//! Checks whether what is written can be read back. Some types serialize without an error into bytes that cannot
//! be deserialized, or that deserialize to another value.

use super::codec::{Codec, Postcard};
use crate::words::positional::{self, Unwritable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::TypeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many entries are read back before any is trusted: the first ones may lack what others contain.
const FIRST: u64 = 32;

/// Decides which entries are read back before they are stored: the first ones, then one each time their number
/// has doubled. After a failure all are, since other values of the same type may fail too.
#[derive(Default)]
pub(super) struct Trials {
    entries: AtomicU64,
    has_failed: AtomicBool,
}

impl Trials {
    /// Whether the next entry is to be read back.
    pub(super) fn is_due(&self) -> bool {
        let number = self.entries.fetch_add(1, Ordering::Relaxed) + 1;
        number <= FIRST || number.is_power_of_two() || self.has_failed.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

/// Whether the codec reads the same value back from these bytes, as far as that can be told without `Eq`.
pub(super) fn comes_back<T, C>(codec: &C, value: &T, bytes: &[u8]) -> bool
where
    T: Serialize + DeserializeOwned,
    C: Codec,
{
    let Ok(read) = codec.decode::<T>(bytes) else { return false };
    // Serialized again, the value must have the same length and variants. A field that is skipped in one
    // direction only shifts the bytes of the others, which shows in the length; a skipped variant changes the
    // numbers of those after it.
    !is_postcard::<C>() || positional::outline(&read) == positional::outline(value)
}

/// Why a value could not be encoded, and what to do, without the value.
pub(super) fn why_unencodable<T: Serialize, C: Codec>(value: &T) -> Arc<str> {
    if !is_postcard::<C>() {
        return "the codec cannot write it; see the `Serialize` of its types".into();
    }
    match positional::write(value, Vec::new()).map_err(|error| *error) {
        Err(error @ Unwritable::FieldLeftOut { .. }) => {
            format!("{error}, or use `.codec(Json)`").into()
        }
        Err(error @ Unwritable::LengthUnknown) => format!("{error}; use `.codec(Json)`").into(),
        // not its own message, which may quote the user's data
        _ => "its `Serialize` refused".into(),
    }
}

/// Why a value could not be read back, and what to do.
pub(super) fn why_lost<C: Codec>() -> Arc<str> {
    if !is_postcard::<C>() {
        return "its codec cannot read back what it wrote; see the `Deserialize` of its types"
            .into();
    }
    "what Postcard wrote is not read back as the same value, as with `serde_json::Value` and with serde's \
     `untagged`, `tag` and `skip_serializing`; use `.codec(Json)` for such types"
        .into()
}

fn is_postcard<C: Codec>() -> bool {
    TypeId::of::<C>() == TypeId::of::<Postcard>()
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_tried_then_ever_fewer_and_all_after_a_failure() {
        let trials = Trials::default();
        let tried: Vec<_> = (1..=300).filter(|_| trials.is_due()).collect();
        assert_eq!(tried, (1..=32).chain([64, 128, 256]).collect::<Vec<_>>());
        trials.failed();
        assert!((0..100).all(|_| trials.is_due()));
    }
}
