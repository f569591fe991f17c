//! How keys and values become bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// How a [`RedisTier`](crate::RedisTier) writes keys and values down: [`Postcard`] unless
/// [`codec`](crate::RedisTierBuilder::codec) says otherwise, or [`Json`], or your own.
///
/// What one codec wrote another one does not read: each frame says whose it is by [`id`](Self::id), and
/// one with another id counts as nothing.
///
/// ```
/// use larder::{Codec, CodecError};
/// use serde::Serialize;
/// use serde::de::DeserializeOwned;
///
/// /// JSON, with the null bytes of this house between records.
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
    /// What tells it from all others: 128 and more are yours, those below larder's.
    fn id(&self) -> u8;

    /// Appends a value to `to`, which is empty.
    ///
    /// # Errors
    ///
    /// The value does not serialize. Then it is not stored.
    fn encode<T: Serialize>(&self, value: &T, to: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads what [`encode`](Self::encode) appended, all of it. Must not panic, nor allocate much more
    /// than there are bytes, whatever they are: others may write to the server.
    ///
    /// # Errors
    ///
    /// It is nothing of this type. Then it counts as not there.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError>;
}

/// Something could not be written by a [`Codec`], or read. It does not say what: the texts of
/// serializers quote the user's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodecError;

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key or value could not be written by the codec, or read")
    }
}

impl std::error::Error for CodecError {}

/// The [`Codec`] unless said otherwise: [postcard](https://docs.rs/postcard), small and fast. Types are
/// read as they were written: with another field in one, [`prefix`](crate::RedisTierBuilder::prefix) has
/// to change.
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

/// A [`Codec`] that other languages read, and that stands a new optional field. Maps with keys that are
/// neither texts nor numbers do not serialize.
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
