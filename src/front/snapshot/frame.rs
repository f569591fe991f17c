//! The bytes of a snapshot: a header, blocks with checksums, an end.
//!
//! ```text
//! header   magic 8 | format u16 | 0 u16 | schema u32 | written at, ms since 1970 u64 | ttl, ms u64 | crc32 u32
//! block    length u32 | entries u32 | crc32 of the payload u32 | crc32 of these twelve bytes u32
//!          payload: entries, one after the other, as postcard writes them
//!            notes, as a byte string: life left ms, age ms, validator, tags, for how long it was not
//!              used ms (nothing for zero), and what later formats add
//!            key | value
//! end      a block of no entries, whose payload is the number of all of them, u64
//! ```
//!
//! All numbers of the frame are little-endian. A length is believed only after its checksum fits,
//! and what it promises is read in pieces: no more is allocated than there is to read.

use super::error::SnapshotError;
use crate::words::positional;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"\x89larder\n";
pub(super) const FORMAT: u16 = 1;
const HEADER: usize = 36;
const HEAD: usize = 16;

/// The size at which a block is closed, in bytes: small enough that a damaged block loses little, large enough
/// that its head does not matter.
const FULL: usize = 64 << 10;

/// The metadata of an entry.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordNotes<'a> {
    /// Milliseconds, as of the header's time; `u64::MAX` for ever.
    pub(super) left: u64,
    /// Milliseconds, as of the header's time.
    pub(super) age: u64,
    #[serde(borrow)]
    pub(super) validator: Option<&'a str>,
    #[serde(borrow)]
    pub(super) tags: Vec<&'a str>,
}

/// An entry as it was read.
pub(super) struct Record<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    pub(super) left: u64,
    pub(super) age: u64,
    pub(super) unused: u64,
    pub(super) validator: Option<String>,
    pub(super) tags: Vec<String>,
}

pub(super) struct Header {
    pub(super) schema: u32,
    /// Milliseconds since 1970.
    pub(super) written: u64,
    /// The time to live of the cache that was saved, in milliseconds.
    pub(super) time_to_live: u64,
}

/// Writes a snapshot.
pub(super) struct Encoder<W> {
    out: W,
    payload: Vec<u8>,
    in_block: u32,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(out: W, header: &Header) -> Result<Self, SnapshotError> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(header.schema.to_le_bytes());
        bytes.extend(header.written.to_le_bytes());
        bytes.extend(header.time_to_live.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let payload = Vec::with_capacity(FULL + FULL / 4);
        let mut encoder = Self { out, payload, in_block: 0, entries: 0, bytes: 0 };
        encoder.write(&bytes)?;
        Ok(encoder)
    }

    pub(super) fn entry<K: Serialize, V: Serialize>(
        &mut self,
        notes: &RecordNotes<'_>,
        unused: u64,
        key: &K,
        value: &V,
    ) -> Result<(), SnapshotError> {
        let mut noted = append(notes, Vec::with_capacity(16))?;
        if unused > 0 {
            noted = append(&unused, noted)?;
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload = append(&Bytes(&noted), payload)?;
        payload = append(key, payload)?;
        self.payload = append(value, payload)?;
        self.in_block += 1;
        self.entries += 1;
        if self.payload.len() >= FULL { self.close_block() } else { Ok(()) }
    }

    /// Writes the last block and the end, and flushes the writer.
    pub(super) fn finish(mut self) -> Result<(u64, u64), SnapshotError> {
        if self.in_block > 0 {
            self.close_block()?;
        }
        self.payload.extend(self.entries.to_le_bytes());
        self.close_block()?;
        self.out.flush()?;
        Ok((self.entries, self.bytes))
    }

    fn close_block(&mut self) -> Result<(), SnapshotError> {
        let length = u32::try_from(self.payload.len()).map_err(|_| SnapshotError::TooLarge)?;
        let mut head = Vec::with_capacity(HEAD);
        head.extend(length.to_le_bytes());
        head.extend(self.in_block.to_le_bytes());
        head.extend(crc32fast::hash(&self.payload).to_le_bytes());
        head.extend(crc32fast::hash(&head).to_le_bytes());
        self.write(&head)?;
        let mut payload = std::mem::take(&mut self.payload);
        self.write(&payload)?;
        payload.clear();
        payload.shrink_to(2 * FULL);
        self.payload = payload;
        self.in_block = 0;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.out.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Serialized as a byte string, and not as a list of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn append<T: Serialize + ?Sized>(value: &T, to: Vec<u8>) -> Result<Vec<u8>, SnapshotError> {
    positional::write(value, to)
        .map_err(|error| SnapshotError::Serialize { reason: error.to_string() })
}

/// What is wrong with a block.
type Flaw = &'static str;

/// Reads a snapshot.
pub(super) struct Decoder<R> {
    input: R,
    block: u64,
    /// Where the block begins.
    offset: u64,
    entries: u64,
    payload: Vec<u8>,
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(mut input: R, schema: u32) -> Result<(Self, Header), SnapshotError> {
        let mut bytes = [0; HEADER];
        let there = fill(&mut input, &mut bytes)?;
        let magic = there.min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] || there == 0 {
            return Err(SnapshotError::NotASnapshot);
        }
        let damaged = |what| SnapshotError::Damaged { block: 0, offset: 0, what, restored: 0 };
        if there < HEADER {
            return Err(damaged("it ends within its header"));
        }
        let format = u16::from_le_bytes([bytes[8], bytes[9]]);
        let u32_at = |at: usize| u32_at(&bytes, at);
        if crc32fast::hash(&bytes[..32]) != u32_at(32) {
            return Err(damaged("the checksum of the header does not fit"));
        }
        if format > FORMAT || format == 0 {
            return Err(SnapshotError::Format { found: format, newest: FORMAT });
        }
        let header = Header {
            schema: u32_at(12),
            written: u64::from(u32_at(20)) << 32 | u64::from(u32_at(16)),
            time_to_live: u64::from(u32_at(28)) << 32 | u64::from(u32_at(24)),
        };
        if header.schema != schema {
            return Err(SnapshotError::Schema { found: header.schema, expected: schema });
        }
        let offset = HEADER as u64;
        Ok((Self { input, block: 0, offset, entries: 0, payload: Vec::new() }, header))
    }

    /// The entries of the next block, all of it or nothing; `None` after the last one. `restored`
    /// is for the error.
    pub(super) fn block<K, V>(
        &mut self,
        restored: u64,
    ) -> Result<Option<Vec<Record<K, V>>>, SnapshotError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        let (block, offset) = (self.block, self.offset);
        let damaged = |what| SnapshotError::Damaged { block, offset, what, restored };
        match self.read()? {
            Ok(0) => {
                let total = self.payload.first_chunk().map(|total| u64::from_le_bytes(*total));
                let fits = total == Some(self.entries);
                if fits { Ok(None) } else { Err(damaged("it lacks entries that were written")) }
            }
            Ok(entries) => {
                let records = records(&self.payload, entries).map_err(damaged)?;
                self.entries += u64::from(entries);
                Ok(Some(records))
            }
            Err(what) => Err(damaged(what)),
        }
    }

    /// Reads a block's payload; returns how many entries it has.
    fn read(&mut self) -> io::Result<Result<u32, Flaw>> {
        let mut head = [0; HEAD];
        if fill(&mut self.input, &mut head)? < HEAD {
            return Ok(Err("it ends before its last block"));
        }
        if crc32fast::hash(&head[..12]) != u32_at(&head, 12) {
            return Ok(Err("the checksum of the block's head does not fit"));
        }
        let length = u64::from(u32_at(&head, 0));
        self.payload.clear();
        // grows with the bytes that are there, whatever length is claimed
        self.input.by_ref().take(length).read_to_end(&mut self.payload)?;
        if self.payload.len() as u64 != length {
            return Ok(Err("it ends within the block"));
        }
        if crc32fast::hash(&self.payload) != u32_at(&head, 8) {
            return Ok(Err("the checksum of the block does not fit"));
        }
        self.block += 1;
        self.offset += HEAD as u64 + length;
        Ok(Ok(u32_at(&head, 4)))
    }
}

fn records<K, V>(mut payload: &[u8], entries: u32) -> Result<Vec<Record<K, V>>, Flaw>
where
    K: DeserializeOwned,
    V: DeserializeOwned,
{
    // The checksum is right, but the block may have been written from other types. A wrong number of entries
    // ends with the payload, since each entry takes at least one byte.
    let mut records = Vec::new();
    for _ in 0..entries {
        let (notes, rest) =
            postcard::take_from_bytes::<&[u8]>(payload).map_err(|_| "an entry's notes are cut")?;
        let unreadable = |_| "an entry's notes cannot be read";
        let (notes, more) =
            postcard::take_from_bytes::<RecordNotes<'_>>(notes).map_err(unreadable)?;
        // a later format may have noted more than is known here
        let (unused, _) = match more {
            [] => (0, more),
            more => postcard::take_from_bytes(more).map_err(unreadable)?,
        };
        let (key, rest) =
            postcard::take_from_bytes(rest).map_err(|_| "a key is not of the cache's type")?;
        let (value, rest) =
            postcard::take_from_bytes(rest).map_err(|_| "a value is not of the cache's type")?;
        let RecordNotes { left, age, validator, tags } = notes;
        let validator = validator.map(str::to_owned);
        let tags = tags.into_iter().map(str::to_owned).collect();
        records.push(Record { key, value, left, age, unused, validator, tags });
        payload = rest;
    }
    if payload.is_empty() { Ok(records) } else { Err("the block has bytes of no entry") }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// Reads until `bytes` is full or nothing is left; returns how many there were.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut there = 0;
    while there < bytes.len() {
        match input.read(&mut bytes[there..]) {
            Ok(0) => break,
            Ok(n) => there += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}
