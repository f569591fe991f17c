//! How keys and values become bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// Turns the keys and values of a [`RedisTier`](crate::RedisTier) into bytes and back: [`Postcard`] by
/// default, or [`Json`] or your own, set with [`codec`](crate::RedisTierBuilder::codec).
///
/// A codec does not read what another one wrote: each stored entry has the [`id`](Self::id) of its codec, and
/// an entry with another id counts as absent.
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
    /// If the value does not serialize. Then it is not stored.
    fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value back from all of what [`encode`](Self::encode) appended. It must not panic, nor allocate
    /// much more than there are bytes, whatever they contain: others may write to the server.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Postcard;

impl Codec for Postcard {
    fn id(&self) -> u8 {
        1
    }

    fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        *to = postcard::to_extend(value, std::mem::take(to)).map_err(|_| CodecError)?;
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            _ => Err(CodecError),
        }
    }
}

/// A [`Codec`] that writes JSON: other languages can read it, and types may get new optional fields. Maps
/// whose keys are neither strings nor numbers do not serialize.
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
