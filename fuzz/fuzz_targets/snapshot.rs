//! Any bytes as a snapshot: read or refused, never a panic, never more memory than bytes.
//!
//! Checksums keep a fuzzer out of what they guard, so the first byte says how much of the frame is
//! made to fit: nothing, the header, or header and blocks.
#![no_main]

use larder::{Cache, Snapshot, SnapshotError};
use libfuzzer_sys::fuzz_target;
use std::time::SystemTime;

type Key = (u8, String);
type Value = Option<Vec<(u16, String)>>;

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    let bytes = match how % 3 {
        0 => data.to_vec(),
        1 => [header(), data.to_vec()].concat(),
        _ => framed(data),
    };
    let cache: Cache<Key, Value> = Cache::new(1_000);
    let snapshot = Snapshot::new().revalidate(how & 8 != 0).at(SystemTime::UNIX_EPOCH);
    match snapshot.load_from(&cache, &bytes[..]) {
        Ok(restored) => assert!(cache.len() <= restored.restored),
        Err(SnapshotError::Damaged { offset, restored, .. }) => {
            assert!(offset <= bytes.len() as u64 && cache.len() <= restored);
        }
        Err(_) => assert!(cache.is_empty()),
    }
    cache.validate();
    // what was restored can be saved, and comes back
    let mut again = Vec::new();
    let saved = snapshot.save_to(&cache, &mut again).expect("it was deserialized");
    let other: Cache<Key, Value> = Cache::new(1_000);
    let restored = snapshot.load_from(&other, &again[..]).expect("it was just written");
    assert_eq!(restored.restored + restored.expired + restored.skipped, saved.entries);
});

fn header() -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(b"\x89larder\n");
    header.extend(1_u16.to_le_bytes());
    header.extend([0; 2 + 4 + 8]);
    header.extend([0xFF; 8]); // saved by a cache whose values lived longer
    header.extend(crc32fast::hash(&header).to_le_bytes());
    header
}

/// The bytes as the payloads of blocks: of each, the first two say how long it is and how many
/// entries it claims.
fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = header();
    while let [length, entries, rest @ ..] = data {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let mut head = Vec::new();
        head.extend((payload.len() as u32).to_le_bytes());
        head.extend(u32::from(*entries).to_le_bytes());
        head.extend(crc32fast::hash(payload).to_le_bytes());
        head.extend(crc32fast::hash(&head).to_le_bytes());
        bytes.extend(head);
        bytes.extend(payload);
        data = rest;
    }
    bytes
}
