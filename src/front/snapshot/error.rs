//! The errors of saving and restoring.

use std::io;

/// Why a snapshot was not written, or not read to its end.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file, or another reader or writer, failed. The system's message is part of this error's own text,
    /// so it is not repeated as its [`source`](std::error::Error::source).
    #[error("the snapshot could not be written or read: {0}")]
    Io(io::Error),
    /// A key or value does not serialize, or not so that it could be read back: see
    /// [`save_to`](crate::Cache::save_to).
    #[error("an entry could not be serialized: {reason}; see the `Serialize` of its types")]
    Serialize {
        /// What the serializer said, or the type itself, which may quote the value; or which field of which
        /// type is left out.
        reason: String,
    },
    /// One entry takes more than 4 GiB.
    #[error("an entry takes more than 4 GiB in a snapshot; keep such values elsewhere")]
    TooLarge,
    /// What was read does not begin like a snapshot.
    #[error("this is no snapshot of a cache: it begins with other bytes; check the path")]
    NotASnapshot,
    /// The snapshot was written by a newer larder.
    #[error(
        "the snapshot has format {found}, and this larder reads formats up to {newest}: start cold, \
         or read it with the version that wrote it"
    )]
    Format {
        /// The snapshot's format.
        found: u16,
        /// The newest format that this larder reads.
        newest: u16,
    },
    /// The snapshot was written with another [`Snapshot::schema`](crate::Snapshot::schema).
    #[error(
        "the snapshot holds entries of schema {found}, and {expected} is expected: start cold, or \
         read it as the types that it was written from"
    )]
    Schema {
        /// The snapshot's schema.
        found: u32,
        /// The schema that the reader asked for.
        expected: u32,
    },
    /// Some bytes of the snapshot are not what was written, or are missing. The entries before them were
    /// restored; nothing in the damaged block was, nor what follows it.
    #[error(
        "the snapshot is damaged in block {block}, at byte {offset}: {what}; the {restored} entries \
         before it were restored, the rest is to be loaded"
    )]
    Damaged {
        /// The number of the block, from 0; the header comes before block 0, and counts as block 0.
        block: u64,
        /// Where in the file the block begins, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
        /// How many entries were restored all the same.
        restored: u64,
    },
}

impl From<io::Error> for SnapshotError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
