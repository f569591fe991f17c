//! What may be wrong with a snapshot.

use std::io;

/// Why a snapshot was not written, or not read to its end.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file, or what else was given, could not be written or read. What the system says of it is part of
    /// this error's own text, and so it is not told again as its [`source`](std::error::Error::source).
    #[error("the snapshot could not be written or read: {0}")]
    Io(io::Error),
    /// A key or value does not serialize.
    #[error("an entry could not be serialized: {reason}; see the `Serialize` of its types")]
    Serialize {
        /// What the serializer said.
        reason: String,
    },
    /// One entry takes more than 4 GiB.
    #[error("an entry takes more than 4 GiB in a snapshot; keep such values elsewhere")]
    TooLarge,
    /// It does not begin like a snapshot.
    #[error("this is no snapshot of a cache: it begins with other bytes; check the path")]
    NotASnapshot,
    /// It was written by a newer larder.
    #[error(
        "the snapshot has format {found}, and this larder reads formats up to {newest}: start cold, \
         or read it with the version that wrote it"
    )]
    Format {
        /// The snapshot's format.
        found: u16,
        /// The newest that is known.
        newest: u16,
    },
    /// It was written under another [`Snapshot::schema`](crate::Snapshot::schema).
    #[error(
        "the snapshot holds entries of schema {found}, and {expected} is expected: start cold, or \
         read it as the types that it was written from"
    )]
    Schema {
        /// The snapshot's.
        found: u32,
        /// What the reader asked for.
        expected: u32,
    },
    /// Some of its bytes are not what was written, or are missing. What stands before them was
    /// restored; nothing of the damaged block was, nor what follows it.
    #[error(
        "the snapshot is damaged in block {block}, at byte {offset}: {what}; the {restored} entries \
         before it were restored, the rest is to be loaded"
    )]
    Damaged {
        /// Which block, from 0; the header is before block 0, and counts as that.
        block: u64,
        /// Where in the file the block begins, in bytes.
        offset: u64,
        /// What does not fit.
        what: &'static str,
        /// How many entries stand in the cache all the same.
        restored: u64,
    },
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
