//! The decoder, with any bytes.

use super::super::chance::Id;
use super::super::codec::{Json, Postcard};
use super::super::frame::{Draft, Frame, Seen, Unfit, complete, mend, tombstone};
use super::{Entry, ms, tag};
use proptest::prelude::*;
use std::sync::Arc;

const ID: Id = *b"0123456789abcdef";
const SPAN: u64 = 100_000;
const TAIL: u64 = 60_000;

fn bytes_of(entry: &Entry) -> Vec<u8> {
    let draft = Draft::of(&Postcard, &ID, entry, 7_000, 1 << 20, true).unwrap();
    complete(&draft, 12_345, SPAN, TAIL)
}

fn entries() -> impl Strategy<Value = Entry> {
    let tags = prop::collection::vec(".{0,9}", 0..4);
    let validator = prop::option::of(".{0,20}");
    (".{0,20}", prop::option::of(".{0,200}"), 0..1_000_000_u64, validator, tags).prop_map(
        |(key, value, age, validator, tags)| {
            let mut entry = Entry::new(key, value);
            entry.age = ms(age);
            entry.stale_for = ms(7_000);
            entry.validator = validator.map(Arc::from);
            entry.tags = tags.iter().map(|name| tag(name)).collect();
            entry
        },
    )
}

/// As the tier reads it, when so much of its span is left.
fn read(bytes: &[u8], left: u64) -> Option<Entry> {
    match Frame::read(bytes) {
        Seen::Frame(frame) => frame.entry(&Postcard, frame.life(left)),
        Seen::Nothing | Seen::Invalid => None,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(entry in entries(), left in 0..=SPAN) {
        let read = read(&bytes_of(&entry), left).unwrap();
        prop_assert_eq!(read.age, entry.age + ms(SPAN - left));
        prop_assert_eq!(read.fresh_for, ms(left.saturating_sub(TAIL)));
        prop_assert_eq!(read.over_for, ms(TAIL.saturating_sub(left)));
        let age = entry.age;
        let same = Entry { age, fresh_for: entry.fresh_for, over_for: entry.over_for, ..read };
        prop_assert!(same == entry);
    }

    #[test]
    fn what_is_cut_is_nothing(entry in entries(), at: prop::sample::Index) {
        let bytes = bytes_of(&entry);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(!matches!(Frame::read(cut), Seen::Frame(_)));
    }

    #[test]
    fn what_goes_on_is_nothing(entry in entries(), more: u8) {
        let mut bytes = bytes_of(&entry);
        bytes.push(more);
        prop_assert_eq!(Frame::read(&bytes), Seen::Invalid);
    }

    #[test]
    fn a_flipped_bit_is_nothing(entry in entries(), at: prop::sample::Index, bit in 0..8) {
        let mut bytes = bytes_of(&entry);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(Frame::read(&bytes), Seen::Invalid);
    }

    #[test]
    fn any_bytes_are_harmless(bytes: Vec<u8>, left: u64) {
        read(&bytes, left);
    }

    #[test]
    fn bytes_whose_checksums_fit_are_harmless(bytes in prop::collection::vec(any::<u8>(), 80..300)) {
        let mut bytes = bytes;
        for kind in *b"VNT" {
            bytes[20] = kind;
            mend(&mut bytes);
            read(&bytes, 1_000);
        }
    }

    #[test]
    fn damage_whose_checksums_fit_is_harmless(
        entry in entries(), at: prop::sample::Index, byte: u8, left: u64,
    ) {
        let mut bytes = bytes_of(&entry);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        mend(&mut bytes);
        read(&bytes, left);
    }
}

#[test]
fn a_tombstone_is_nothing() {
    assert_eq!(Frame::read(&tombstone(&ID)), Seen::Nothing);
    assert_eq!(Frame::read(b""), Seen::Nothing);
    assert_eq!(Frame::read(&tombstone(&ID)[1..]), Seen::Invalid);
    assert_eq!(Frame::read(b"LRD20123456789abcdefT"), Seen::Invalid);
}

#[test]
fn another_codec_reads_nothing() {
    let entry = Entry::new("a".to_owned(), Some("b".to_owned()));
    let bytes = bytes_of(&entry);
    let Seen::Frame(frame) = Frame::read(&bytes) else { panic!("it was just written") };
    let life = frame.life(SPAN);
    assert!(frame.entry::<String, String, _>(&Json, life).is_none());
    // nor do other types
    assert!(frame.entry::<String, (u64, u64, u64), _>(&Postcard, life).is_none());
    assert!(frame.entry::<String, String, _>(&Postcard, life).is_some());
}

#[test]
fn what_is_too_large_is_not_written() {
    let entry = Entry::new("a".to_owned(), Some("b".repeat(1_000)));
    let len = bytes_of(&entry).len();
    let draft = |most| Draft::of(&Postcard, &ID, &entry, 7_000, most, true).map(|_| ());
    assert_eq!(draft(len), Ok(()));
    assert_eq!(draft(len - 1), Err(Unfit::TooLarge));
}
