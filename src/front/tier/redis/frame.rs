//! The bytes of an entry on the server.
//!
//! ```text
//! head   magic 4 | id 16 | kind 1 | since 16 | span 16 | tail 16 | seal 10
//! body   crc32 of the kind and of what follows u32
//!        codec u8 | age, ms u64 | stale_for, ms u64 | key | value, of the kind that has one
//!          | 0, or 1 and the validator | tags u16, each of them
//! ```
//!
//! Scripts write the head, so its numbers are decimal digits, and its checksum (`seal`) is one that Lua can
//! compute. The numbers of the body are little-endian; a key, value, validator or tag is preceded by its length
//! as u32. A tombstone ends after its kind.
//!
//! No time of day is stored. The server's expiry of the key is set to `span` milliseconds, of which the last
//! `tail` come after the entry's life; so the key's remaining time tells the entry's age.

use super::chance::Id;
use super::codec::Codec;
use super::trial;
use crate::rules::tag::Tag;
use crate::rules::tier::TierEntry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

pub(super) const MAGIC: [u8; 4] = *b"LRD1";
/// Offsets in the head; the scripts repeat them as numbers.
const KIND: usize = 20;
const SINCE: usize = 21;
const SPAN: usize = 37;
const TAIL: usize = 53;
const SEAL: usize = 69;
const BODY: usize = 79;
const DIGITS: usize = 16;

const VALUE: u8 = b'V';
const MISSING: u8 = b'N';
const TOMBSTONE: u8 = b'T';

/// The first bytes of a frame: magic, id and kind.
fn begin(id: &Id, kind: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SINCE);
    bytes.extend(MAGIC);
    bytes.extend(id);
    bytes.push(kind);
    bytes
}

/// The mark of a removal. It has no body, and reads as no entry.
pub(super) fn tombstone(id: &Id) -> Vec<u8> {
    begin(id, TOMBSTONE)
}

/// A frame without the numbers that the script fills in.
pub(super) struct Draft {
    /// Up to the kind.
    pub(super) begin: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Why an entry is not stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    TooLarge,
    /// For this reason.
    Unencodable(Arc<str>),
    /// It cannot be read back from its bytes, for this reason.
    Lost(Arc<str>),
}

impl Draft {
    /// Reads key and value back if `is_tried`.
    pub(super) fn of<K, V, C>(
        codec: &C,
        id: &Id,
        entry: &TierEntry<K, V>,
        stale_for: u64,
        most: usize,
        is_tried: bool,
    ) -> Result<Self, Unfit>
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
        C: Codec,
    {
        let kind = if entry.value.is_some() { VALUE } else { MISSING };
        let mut body = Vec::with_capacity(64);
        body.extend([0; 4]);
        body.push(codec.id());
        body.extend(millis(entry.age).to_le_bytes());
        body.extend(stale_for.to_le_bytes());
        append(&mut body, &encoded(codec, &entry.key, is_tried)?)?;
        if let Some(value) = &entry.value {
            append(&mut body, &encoded(codec, value, is_tried)?)?;
        }
        match &entry.validator {
            Some(validator) => {
                body.push(1);
                append(&mut body, validator.as_bytes())?;
            }
            None => body.push(0),
        }
        let tags = u16::try_from(entry.tags.len()).map_err(|_| Unfit::TooLarge)?;
        body.extend(tags.to_le_bytes());
        for tag in &entry.tags {
            append(&mut body, tag.as_str().as_bytes())?;
        }
        if BODY + body.len() > most {
            return Err(Unfit::TooLarge);
        }
        let crc = checksum(kind, &body[4..]);
        body[..4].copy_from_slice(&crc.to_le_bytes());
        Ok(Self { begin: begin(id, kind), body })
    }
}

fn encoded<T: Serialize + DeserializeOwned, C: Codec>(
    codec: &C,
    value: &T,
    is_tried: bool,
) -> Result<Vec<u8>, Unfit> {
    // encoded into a separate buffer, since a user's codec may do anything to it
    let mut bytes = Vec::new();
    if codec.encode(value, &mut bytes).is_err() {
        return Err(Unfit::Unencodable(trial::why_unencodable::<T, C>(value)));
    }
    if is_tried && !trial::comes_back(codec, value, &bytes) {
        return Err(Unfit::Lost(trial::why_lost::<C>()));
    }
    Ok(bytes)
}

fn append(body: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Unfit> {
    let len = u32::try_from(bytes.len()).map_err(|_| Unfit::TooLarge)?;
    body.extend(len.to_le_bytes());
    body.extend(bytes);
    Ok(())
}

/// What is stored under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// No bytes, or a tombstone.
    Nothing,
    Frame(Frame<'a>),
    /// Bytes that are no frame.
    Invalid,
}

/// A parsed frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The number of the last change of tags when its load began.
    pub(super) since: u64,
    span: u64,
    tail: u64,
    codec: u8,
    age: u64,
    stale_for: u64,
    key: &'a [u8],
    value: Option<&'a [u8]>,
    validator: Option<&'a str>,
    pub(super) tags: Vec<&'a str>,
}

/// How old a frame's entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameLife {
    age: u64,
    pub(super) fresh_for: u64,
    pub(super) over_for: u64,
    /// The time since it was stored.
    stands: u64,
}

impl FrameLife {
    /// Ends the life `ago` milliseconds before now, by the server's clock; but no earlier than the entry was
    /// stored, in case that clock was changed.
    pub(super) fn end(&mut self, ago: u64) {
        self.fresh_for = 0;
        self.over_for = ago.min(self.stands).max(self.over_for);
    }
}

impl<'a> Frame<'a> {
    /// Parses bytes; allocates only the list of tags.
    pub(super) fn read(bytes: &'a [u8]) -> Seen<'a> {
        let is_tombstone = bytes.len() == SINCE && bytes[KIND] == TOMBSTONE;
        if bytes.is_empty() || is_tombstone && bytes.starts_with(&MAGIC) {
            return Seen::Nothing;
        }
        Self::parse(bytes).map_or(Seen::Invalid, Seen::Frame)
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, body) = bytes.split_at_checked(BODY)?;
        let kind = head[KIND];
        if !head.starts_with(&MAGIC) || !matches!(kind, VALUE | MISSING) {
            return None;
        }
        if digits(&head[SEAL..])? != seal(&head[..SEAL]) {
            return None;
        }
        let mut body = Cut(body);
        if body.u32()? != checksum(kind, body.0) {
            return None;
        }
        let number = |at: usize| digits(&head[at..at + DIGITS]);
        let (since, span, tail) = (number(SINCE)?, number(SPAN)?, number(TAIL)?);
        let (codec, age, stale_for) = (body.u8()?, body.u64()?, body.u64()?);
        let key = body.sized()?;
        let value = if kind == VALUE { Some(body.sized()?) } else { None };
        let validator = match body.u8()? {
            0 => None,
            1 => Some(body.text()?),
            _ => return None,
        };
        let mut tags = Vec::new();
        for _ in 0..body.u16()? {
            tags.push(body.text()?);
        }
        if !body.0.is_empty() {
            return None;
        }
        Some(Self { since, span, tail, codec, age, stale_for, key, value, validator, tags })
    }

    /// Its age and remaining life, if the key expires in so many milliseconds.
    pub(super) fn life(&self, left: u64) -> FrameLife {
        // somebody may have prolonged the key's expiry by hand: that makes the entry no younger
        let left = left.min(self.span);
        let stands = self.span - left;
        FrameLife {
            age: self.age.saturating_add(stands),
            fresh_for: left.saturating_sub(self.tail),
            over_for: self.tail.saturating_sub(left),
            stands,
        }
    }

    /// Whether it is fresh or within its stale window.
    pub(super) fn is_useful(&self, life: FrameLife) -> bool {
        life.fresh_for > 0 || life.over_for < self.stale_for
    }

    /// For how long after its life it may be served.
    pub(super) fn stale_for(&self) -> u64 {
        self.stale_for
    }

    pub(super) fn entry<K, V, C>(&self, codec: &C, life: FrameLife) -> Option<TierEntry<K, V>>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        C: Codec,
    {
        if self.codec != codec.id() {
            return None;
        }
        let key = codec.decode(self.key).ok()?;
        let value = match self.value {
            Some(bytes) => Some(codec.decode(bytes).ok()?),
            None => None,
        };
        Some(TierEntry {
            key,
            value,
            age: Duration::from_millis(life.age),
            fresh_for: Duration::from_millis(life.fresh_for),
            time_to_live: Duration::MAX,
            over_for: Duration::from_millis(life.over_for),
            stale_for: Duration::from_millis(self.stale_for),
            validator: self.validator.map(Into::into),
            tags: self.tags.iter().copied().map(Tag::from).collect(),
        })
    }
}

/// Milliseconds, saturating.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Parses a number of digits only.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > DIGITS || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The checksum of a head, as the scripts compute it: all intermediate results are exact in Lua's doubles.
fn seal(head: &[u8]) -> u64 {
    head.iter().fold(0, |sum, &byte| (sum * 257 + u64::from(byte) + 1) % 4_294_967_291)
}

fn checksum(kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(body);
    hasher.finalize()
}

/// A reader of the remaining bytes.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.sized()?).ok()
    }
}

/// A complete frame, as the script would write it.
#[cfg(all(test, unix, not(any(larder_loom, larder_shuttle))))]
pub(super) fn complete(draft: &Draft, since: u64, span: u64, tail: u64) -> Vec<u8> {
    let mut bytes = draft.begin.clone();
    bytes.extend(format!("{since:016}{span:016}{tail:016}").bytes());
    let seal = seal(&bytes);
    bytes.extend(format!("{seal:010}").bytes());
    bytes.extend(&draft.body);
    bytes
}

/// Makes both checksums of any bytes fit, if there are enough of them: for tests and the fuzzer.
pub(super) fn mend(bytes: &mut [u8]) {
    if bytes.len() < BODY + 4 {
        return;
    }
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    for byte in &mut bytes[SINCE..SEAL] {
        *byte = b'0' + *byte % 10;
    }
    let sum = seal(&bytes[..SEAL]);
    bytes[SEAL..BODY].copy_from_slice(format!("{sum:010}").as_bytes());
    let crc = checksum(bytes[KIND], &bytes[BODY + 4..]);
    bytes[BODY..BODY + 4].copy_from_slice(&crc.to_le_bytes());
}
