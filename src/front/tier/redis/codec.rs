//! How keys and values become bytes.

use crate::words::positional;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// Turns the keys and values of a [`RedisTier`](crate::RedisTier) into bytes and back: [`Postcard`] by
/// default, or [`Json`] or your own, set with [`codec`](crate::RedisTierBuilder::codec).
///
/// A codec does not read what another one wrote: each stored entry has the [`id`](Self::id) of its codec, and
/// an entry with another id counts as absent.
///
/// An entry that the codec cannot encode, or cannot read back, is left out of the tier; the cache serves it
/// all the same, counts it ([`Stats::tier_skipped`](crate::Stats::tier_skipped)) and tells its handler of
/// [events](crate::Event::TierSkipped). To find out, the tier has the codec decode what it encoded: for the
/// first 32 entries, then once whenever their number has doubled, and always after an entry that could not be
/// read back.
///
/// ```
/// use larder::{Codec, CodecError};
/// use serde::Serialize;
/// use serde::de::DeserializeOwned;
///
/// /// JSON, with a null byte after each key and value.
/// #[derive(Clone, Copy, Debug)]
/// struct Ours;
///
/// impl Codec for Ours {
///     fn id(&self) -> u8 {
///         200
///     }
///
///     fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
///         serde_json::to_writer(&mut *to, value).map_err(|_| CodecError)?;
///         to.push(0);
///         Ok(())
///     }
///
///     fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
///         let json = bytes.strip_suffix(&[0]).ok_or(CodecError)?;
///         serde_json::from_slice(json).map_err(|_| CodecError)
///     }
/// }
/// ```
pub trait Codec: Clone + Send + Sync + 'static {
    /// Returns the number that tells this codec from all others: 128 and above are yours, those below are
    /// larder's.
    fn id(&self) -> u8;

    /// Appends a value to `to`, which is empty.
    ///
    /// # Errors
    ///
    /// If the value does not serialize, or if it is known that [`decode`](Self::decode) would make another
    /// value of the bytes. Then it is not stored.
    fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value back from all of what [`encode`](Self::encode) appended. It must not panic, nor allocate
    /// much more than there are bytes, whatever they contain: others may write to the server. It also runs on
    /// the thread that sends changes to the tier, for entries that are read back before they are stored.
    ///
    /// # Errors
    ///
    /// If the bytes are not a value of this type. Then they count as absent.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError>;
}

/// A [`Codec`] could not write or read a key or value. The error does not say what: the messages of
/// serializers quote the user's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodecError;

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key or value could not be written by the codec, or read")
    }
}

impl std::error::Error for CodecError {}

/// The default [`Codec`]: [postcard](https://docs.rs/postcard), small and fast. Types are read exactly as
/// they were written: if one gets another field, the [`prefix`](crate::RedisTierBuilder::prefix) has to
/// change.
///
/// The bytes have no field names, so what is read has to have the same fields as what was written. Some of
/// serde's attributes break that: use [`Json`] for types that have them. (`default` and `rename` do no harm,
/// nor does `skip` for a field, or for the last variants of an enum.)
///
/// * [`encode`](Codec::encode) refuses a value with a named field that `skip_serializing_if` leaves out (other
///   values of its type are written), and all values with `flatten`, or of unknown length.
/// * It cannot tell that a value will not be read back: enums that are `untagged` or have a `tag`, and
///   `serde_json::Value`, fail in [`decode`](Codec::decode). A field with `skip_serializing` or
///   `skip_deserializing` alone, a nameless one with `skip_serializing_if`, and a variant with `skip` before
///   others may even be read as another value. The tier finds these when it reads back what it encoded. (It
///   then also leaves out a value that became longer or shorter because its `Deserialize` changes it.)
///
/// ```
/// use larder::{Codec, CodecError, Json, Postcard};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Price {
///     #[serde(skip_serializing_if = "Option::is_none")]
///     note: Option<String>,
///     cents: u32,
/// }
///
/// let price = Price { note: None, cents: 300 };
/// assert_eq!(Postcard.encode(&price, &mut Vec::new()), Err(CodecError));
/// assert_eq!(Json.encode(&price, &mut Vec::new()), Ok(()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Postcard;

impl Codec for Postcard {
    fn id(&self) -> u8 {
        1
    }

    fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        *to = positional::write(value, std::mem::take(to)).map_err(|_| CodecError)?;
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            _ => Err(CodecError),
        }
    }
}

/// A [`Codec`] that writes JSON: other languages can read it, types may get new optional fields, and all of
/// serde's attributes work, also those that [`Postcard`] refuses. Maps whose keys are neither strings nor
/// numbers do not serialize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json;

impl Codec for Json {
    fn id(&self) -> u8 {
        2
    }

    fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(to, value).map_err(|_| CodecError)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(|_| CodecError)
    }
}
