//! Warm restarts: what comes back, for how long, and what a damaged file does.
#![cfg(feature = "snapshot")]

mod common;

use common::{Checked, checked, ms, secs};
use larder::{Cache, CacheBuilder, Clock, Loaded, ManualClock, Restored, Snapshot, SnapshotError};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + secs(1_800_000_000)
}

type Shelf = Checked<u64, String>;

fn shelf(
    settings: impl FnOnce(CacheBuilder<u64, String>) -> CacheBuilder<u64, String>,
) -> (Shelf, ManualClock) {
    let (clock, hand) = Clock::manual();
    // a fixed one: of two keys that share a place among what was written lately, one write keeps both back
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let builder = Cache::builder().max_entries(10_000).clock(clock).seed(7).hasher(hasher);
    (checked(settings(builder)), hand)
}

fn usual() -> (Shelf, ManualClock) {
    shelf(|builder| builder.time_to_live(secs(100)))
}

fn saved(cache: &Cache<u64, String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let saved = Snapshot::new().at(noon()).save_to(cache, &mut bytes).unwrap();
    assert_eq!((saved.bytes, saved.entries), (bytes.len() as u64, cache.len()));
    bytes
}

fn load(cache: &Cache<u64, String>, bytes: &[u8], later: Duration) -> Restored {
    Snapshot::new().at(noon() + later).load_from(cache, bytes).unwrap()
}

/// How many were restored, expired, skipped.
fn counts(restored: Restored) -> [u64; 3] {
    [restored.restored, restored.expired, restored.skipped]
}

#[test]
fn a_change_sees_what_is_restored_meanwhile() {
    let (before, _hand) = usual();
    before.insert(1, "one".to_owned());
    let bytes = saved(&before);
    let (after, _hand) = usual();
    let mut seen = Vec::new();
    after.alter(&1, |found| {
        if seen.is_empty() {
            std::thread::scope(|scope| {
                let restored = scope.spawn(|| counts(load(&after, &bytes, secs(0))));
                assert_eq!(restored.join().unwrap(), [1, 0, 0]);
            });
        }
        seen.push(found.clone());
        Some(found.unwrap_or_default() + "!")
    });
    assert_eq!(seen, [None, Some("one".to_owned())]);
    assert_eq!(after.get(&1).as_deref(), Some("one!"));
}

#[test]
fn lives_go_on_where_they_were() {
    let (before, hand) = usual();
    before.insert(1, "one".to_owned());
    hand.advance(secs(30));
    before.at(&2).ttl(secs(20)).insert("two".to_owned());
    before.at(&3).ttl(Duration::MAX).insert("three".to_owned());
    before.at(&4).load(|_| Ok::<_, ()>(Loaded::new("four".to_owned()).validator("v4"))).unwrap();
    let bytes = saved(&before);

    let (after, hand) = usual();
    assert_eq!(counts(load(&after, &bytes, secs(25))), [3, 1, 0]);
    let one = after.peek(&1).unwrap();
    assert_eq!((one.value.as_str(), one.fresh_for, one.age), ("one", secs(45), secs(55)));
    assert_eq!(after.get(&2), None);
    assert_eq!(after.peek(&3).unwrap().fresh_for, Duration::MAX);
    assert_eq!(after.peek(&4).unwrap().validator.as_deref(), Some("v4"));
    hand.advance(ms(44_999));
    assert!(after.contains(&1));
    hand.advance(ms(1));
    assert!(!after.contains(&1));
    assert!(after.contains(&4));
}

#[test]
fn a_time_to_idle_goes_on_beside_the_time_to_live() {
    let idle = |builder: CacheBuilder<u64, String>| {
        builder.time_to_live(secs(100)).time_to_idle(secs(10)).stale_if_error(secs(50))
    };
    let (before, hand) = shelf(idle);
    before.insert(1, "used".to_owned());
    before.insert(2, "not used".to_owned());
    hand.advance(secs(5));
    assert!(before.get(&1).is_some());
    let bytes = saved(&before);
    let (after, hand) = shelf(idle);
    assert_eq!(counts(load(&after, &bytes, secs(5))), [1, 1, 0], "the other one was idle for 10 s");
    let one = after.peek(&1).unwrap();
    assert_eq!((one.age, one.fresh_for), (secs(10), secs(5)));
    for _ in 0..22 {
        hand.advance(secs(4));
        assert!(after.get(&1).is_some(), "it is used, and lives");
    }
    assert_eq!(after.peek(&1).unwrap().fresh_for, secs(2), "but not for longer than 100 s");
    let (unused, hand) = shelf(idle);
    load(&unused, &bytes, secs(5));
    hand.advance(secs(5));
    assert!(unused.get_or_load(&1, || Err("away")).is_err(), "what was idle has no window");
    assert_eq!(counts(load(&usual().0, &bytes, secs(60))), [2, 0, 0], "nobody keeps it here");
}

#[test]
fn a_long_life_ends_after_a_restart_too() {
    let year = secs(31_536_000);
    let long = |builder: CacheBuilder<u64, String>| builder.time_to_live(year * 40);
    let (before, _hand) = shelf(long);
    before.insert(1, "one".to_owned());
    assert_eq!(before.peek(&1).unwrap().fresh_for, year * 40);
    let (after, hand) = shelf(long);
    load(&after, &saved(&before), year);
    assert_eq!(after.peek(&1).unwrap().fresh_for, year * 39);
    hand.advance(year * 39);
    assert_eq!(after.get(&1), None);
}

/// Removes a tag while it is read.
struct Remover<'a>(&'a [u8], &'a Shelf);

impl Read for Remover<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.remove_tag("all");
        let some = into.len().min(1_000);
        self.0.read(&mut into[..some])
    }
}

#[test]
fn tags_come_back_and_a_removal_meanwhile_counts() {
    let (before, _hand) = usual();
    for key in 0..300 {
        before
            .at(&key)
            .tag(if key % 3 == 0 { "odd" } else { "even" })
            .tag("all")
            .insert("x".into());
    }
    before.insert(1_000, "untagged".to_owned());
    let bytes = saved(&before);
    let (after, _hand) = usual();
    assert_eq!(load(&after, &bytes, secs(1)).restored, 301);
    after.remove_tag("odd");
    assert_eq!((after.get(&0), after.entries().count()), (None, 201));
    after.remove_tag("all");
    assert_eq!(after.entries().count(), 1);

    let (after, _hand) = usual();
    Snapshot::new().at(noon()).load_from(&after, Remover(&bytes, &after)).unwrap();
    assert_eq!(after.entries().count(), 1, "what was read is older than the removal");
}

#[test]
fn a_life_is_not_drawn_again() {
    let jittered = |builder: CacheBuilder<u64, String>| builder.time_to_live(secs(100)).jitter(1.0);
    let (before, _hand) = shelf(jittered);
    (0..100).for_each(|key| before.insert(key, String::new()));
    let (after, _hand) = shelf(jittered);
    assert_eq!(counts(load(&after, &saved(&before), Duration::ZERO))[1..], [0, 0]);
    for (key, got) in before.entries() {
        assert_eq!(after.peek(&key).unwrap().fresh_for, got.fresh_for);
    }
}

#[test]
fn a_wall_clock_that_steps_makes_nothing_live_longer() {
    let (before, _hand) = usual();
    before.insert(1, "one".to_owned());
    let bytes = saved(&before);
    let (after, _hand) = usual();
    let back = Snapshot::new().at(noon() - secs(86_400)).load_from(&after, &bytes[..]).unwrap();
    assert_eq!((counts(back), after.peek(&1).unwrap().fresh_for), ([1, 0, 0], secs(100)));
    let (after, _hand) = usual();
    assert_eq!(counts(load(&after, &bytes, secs(86_400 * 36_500))), [0, 1, 0]);
    let (after, _hand) = usual();
    let epoch = SystemTime::UNIX_EPOCH - secs(1);
    let before_time = Snapshot::new().at(epoch).load_from(&after, &bytes[..]).unwrap();
    assert_eq!(counts(before_time), [1, 0, 0]);
}

/// Removes an entry while it is read.
struct Meddler<'a>(&'a [u8], &'a Shelf);

impl Read for Meddler<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1.remove(&2);
        self.0.read(into)
    }
}

#[test]
fn what_is_there_is_newer() {
    let (before, _hand) = usual();
    (0..3).for_each(|key| before.insert(key, "old".to_owned()));
    let bytes = saved(&before);
    let (after, _hand) = usual();
    after.insert(1, "new".to_owned());
    // and a removal while it is read
    let restored = Snapshot::new().at(noon()).load_from(&after, Meddler(&bytes, &after)).unwrap();
    assert_eq!(counts(restored), [1, 0, 2]);
    assert_eq!((after.get(&0).as_deref(), after.get(&1).as_deref()), (Some("old"), Some("new")));
    assert_eq!(after.get(&2), None);
}

#[test]
fn bounds_hold_whatever_is_restored() {
    let (before, _hand) = usual();
    (0..1_000).for_each(|key| before.insert(key, "x".repeat(key as usize % 50)));
    let bytes = saved(&before);
    let (clock, _hand) = Clock::manual();
    let small = checked(Cache::builder().max_entries(100).clock(clock.clone()));
    assert_eq!(load(&small, &bytes, Duration::ZERO).restored, 1_000);
    assert!(small.len() <= 100);
    let none = checked(Cache::builder().max_entries(0).clock(clock.clone()));
    assert_eq!((load(&none, &bytes, Duration::ZERO).restored, none.len()), (0, 0));
    let light = Cache::builder().max_weight(40).weigher(|_, v: &String| v.len() as u64);
    let light = checked(light.clock(clock));
    assert_eq!(load(&light, &bytes, Duration::ZERO).skipped, 20 * 9, "each of 41 and more");
    assert!(light.weight() <= 40);
}

#[test]
fn restored_entries_may_be_loaded_anew_on_first_use() {
    let stale = |builder: CacheBuilder<u64, String>| {
        builder.time_to_live(secs(100)).stale_while_revalidate(secs(50))
    };
    let (before, _hand) = shelf(stale);
    let load = |_: &_| Ok::<_, ()>(Loaded::new("old".to_owned()).validator("v1"));
    before.at(&1).load(load).unwrap();
    (10..1_000).for_each(|key| before.insert(key, "old".to_owned()));
    let bytes = saved(&before);
    let (after, _hand) = shelf(stale);
    let snapshot = Snapshot::new().revalidate(true).at(noon() + secs(10));
    assert_eq!(snapshot.load_from(&after, &bytes[..]).unwrap().restored, 991);
    assert_eq!(after.get(&1), None);
    let got = after.at(&1).load(|cx| {
        assert_eq!((cx.validator(), cx.stale().map(String::as_str)), (Some("v1"), Some("old")));
        Ok::<_, ()>(Loaded::unchanged())
    });
    assert_eq!(got.unwrap().value, "old");
    assert_eq!(after.peek(&1).unwrap().fresh_for, secs(100));
    let (cold, _hand) = usual();
    snapshot.load_from(&cold, &bytes[..]).unwrap();
    assert_eq!(cold.get(&1), None);
}

#[test]
fn what_is_removed_while_the_header_is_read_is_newer_too() {
    struct Early<'a>(&'a [u8], &'a Shelf, bool);
    impl Read for Early<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if std::mem::take(&mut self.2) {
                self.1.remove(&1);
                self.1.remove_tag("two");
            }
            self.0.read(into)
        }
    }
    let (before, _hand) = usual();
    before.insert(1, "one".to_owned());
    before.at(&2).tag("two").insert("two".to_owned());
    before.insert(3, "three".to_owned());
    let bytes = saved(&before);
    let (after, _hand) = usual();
    let restored = Snapshot::new().at(noon()).load_from(&after, Early(&bytes, &after, true));
    assert_eq!(counts(restored.unwrap()), [1, 0, 2]);
    assert!(after.contains(&3));
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Key {
    Unit,
    Pair(String, Vec<u8>),
}

#[test]
fn an_empty_cache_and_odd_types_come_back() {
    let (before, _hand) = usual();
    let (after, _hand) = usual();
    assert_eq!(counts(load(&after, &saved(&before), Duration::ZERO)), [0, 0, 0]);

    let before: Cache<Key, Option<(f64, char)>> = Cache::new(100);
    before.insert(Key::Unit, None);
    before.insert(Key::Pair("key".to_owned(), vec![0, 255]), Some((0.5, 'ß')));
    let mut bytes = Vec::new();
    before.save_to(&mut bytes).unwrap();
    let after: Cache<Key, Option<(f64, char)>> = Cache::new(100);
    assert_eq!(after.load_from(&bytes[..]).unwrap().restored, 2);
    assert_eq!(after.get(&Key::Pair("key".to_owned(), vec![0, 255])), Some(Some((0.5, 'ß'))));
    // a value of no bytes, and one larger than a block
    let before: Cache<(), ()> = Cache::new(1);
    before.insert((), ());
    let mut bytes = Vec::new();
    before.save_to(&mut bytes).unwrap();
    let after: Cache<(), ()> = Cache::new(1);
    assert_eq!(after.load_from(&bytes[..]).unwrap().restored, 1);
    let large = "x".repeat(3 << 20);
    let (before, _hand) = usual();
    before.insert(1, large.clone());
    before.insert(2, "small".to_owned());
    let (after, _hand) = usual();
    assert_eq!(load(&after, &saved(&before), Duration::ZERO).restored, 2);
    assert_eq!(after.get(&1), Some(large));
}

#[test]
fn what_is_no_snapshot_of_this_cache_is_refused() {
    let (before, _hand) = usual();
    before.insert(1, "one".to_owned());
    let bytes = saved(&before);
    let (after, _hand) = usual();
    for other in [&b""[..], b"{}", b"\x89PNG\r\n\x1a\n", &[0; 100]] {
        assert!(matches!(after.load_from(other), Err(SnapshotError::NotASnapshot)));
    }
    let wrong = Snapshot::new().schema(2).load_from(&after, &bytes[..]);
    assert!(matches!(wrong, Err(SnapshotError::Schema { found: 0, expected: 2 })));
    let mut newer = bytes.clone();
    newer[8..10].copy_from_slice(&9_u16.to_le_bytes());
    let crc = crc32fast_of(&newer[..32]);
    newer[32..36].copy_from_slice(&crc.to_le_bytes());
    let wrong = after.load_from(&newer[..]);
    assert!(matches!(wrong, Err(SnapshotError::Format { found: 9, newest: 1 })), "{wrong:?}");
    // what follows the end is not its own
    let mut longer = bytes.clone();
    longer.extend(b"something else");
    let mut rest = &longer[..];
    assert_eq!(after.load_from(&mut rest).unwrap().restored, 1);
    assert_eq!(rest, b"something else");
    // other types: an error or other values, and no more than that
    let numbers: Cache<String, Vec<u32>> = Cache::new(100);
    assert!(matches!(numbers.load_from(&bytes[..]), Err(SnapshotError::Damaged { .. })));
    assert!(numbers.is_empty());
}

/// CRC-32 (IEEE 802.3), bit by bit.
fn crc32fast_of(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    };
    !bytes.iter().fold(!0, step)
}

/// Three blocks and a half.
fn large() -> (Vec<u8>, u64) {
    let (before, _hand) = usual();
    (0..700).for_each(|key| before.insert(key, format!("{key}").repeat(100)));
    (saved(&before), 700)
}

#[test]
fn a_damaged_file_says_where_and_restores_what_stands_before() {
    let (bytes, all) = large();
    let (after, _hand) = usual();
    for (at, wanted) in [(40, 0), (29, 0), (70_000, 1), (bytes.len() - 1, 4)] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let error = Snapshot::new().at(noon()).load_from(&after, &bad[..]).unwrap_err();
        let SnapshotError::Damaged { block, offset, restored, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(block, wanted, "{error}");
        assert!(offset <= at as u64 && restored <= all);
        assert_eq!(restored == 0, block == 0);
        assert_eq!(after.len(), restored, "nothing of the damaged block");
        let text = error.to_string();
        assert!(text.contains(&format!("block {block}, at byte {offset}")), "{text}");
        after.clear();
    }
}

#[test]
fn a_file_that_was_cut_is_damaged_wherever() {
    let (before, _hand) = usual();
    (0..5).for_each(|key| before.insert(key, "value".to_owned()));
    let bytes = saved(&before);
    for length in 0..bytes.len() {
        let (after, _hand) = usual();
        let error = Snapshot::new().at(noon()).load_from(&after, &bytes[..length]).unwrap_err();
        match error {
            SnapshotError::NotASnapshot => assert_eq!(length, 0),
            SnapshotError::Damaged { restored, .. } => assert_eq!(restored, after.len()),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_length_that_lies_allocates_nothing() {
    let (before, _hand) = usual();
    before.insert(1, "one".to_owned());
    let mut bytes = saved(&before);
    // a block of 4 GiB and 4 billion entries, with the checksum that belongs to that
    bytes[36..44].copy_from_slice(&[0xFF; 8]);
    let crc = crc32fast_of(&bytes[36..48]);
    bytes[48..52].copy_from_slice(&crc.to_le_bytes());
    let (after, _hand) = usual();
    let error = after.load_from(&bytes[..]).unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { block: 0, offset: 36, .. }), "{error}");
    // and one whose checksums fit, with entries that are not there
    let mut bytes = saved(&before);
    bytes[40..44].copy_from_slice(&[0xFF; 4]);
    let crc = crc32fast_of(&bytes[36..48]);
    bytes[48..52].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(after.load_from(&bytes[..]), Err(SnapshotError::Damaged { .. })));
    assert!(after.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is done to its bytes: no panic, and what is restored is what was saved.
    #[test]
    fn mangled_bytes_restore_what_was_saved_or_nothing(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8),
    ) {
        let (clock, _hand) = Clock::manual();
        let before: Cache<u64, String> = Cache::builder().max_entries(500).clock(clock.clone()).build().unwrap();
        (0..300).for_each(|key| before.insert(key, format!("{key}").repeat(90)));
        let mut bytes = saved(&before);
        for (at, byte, what) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] ^= byte,
                1 => bytes.truncate(at),
                2 => _ = bytes.remove(at),
                _ => bytes.insert(at, byte),
            }
        }
        let after: Cache<u64, String> = Cache::builder().max_entries(500).clock(clock).build().unwrap();
        let result = Snapshot::new().at(noon()).load_from(&after, &bytes[..]);
        if let Err(SnapshotError::Damaged { restored, .. }) = &result {
            prop_assert_eq!(after.len(), *restored);
        }
        for (key, got) in after.entries() {
            prop_assert_eq!(got.value, format!("{key}").repeat(90));
        }
        after.validate();
    }

    /// Behind checksums that fit, there may be anything.
    #[test]
    fn any_payload_is_read_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..200), count: u32) {
        let (before, _hand) = usual();
        let mut bytes = saved(&before);
        bytes.truncate(36);
        let mut head = Vec::new();
        head.extend((payload.len() as u32).to_le_bytes());
        head.extend((count % 9).to_le_bytes());
        head.extend(crc32fast_of(&payload).to_le_bytes());
        head.extend(crc32fast_of(&head).to_le_bytes());
        bytes.extend(head);
        bytes.extend(payload);
        let (after, _hand) = usual();
        let result = Snapshot::new().at(noon()).load_from(&after, &bytes[..]);
        let whole = count % 9 == 0 && result.is_ok();
        let is_damaged = matches!(result, Err(SnapshotError::Damaged { .. }));
        prop_assert!(whole || is_damaged);
    }
}

/// Does not serialize.
#[derive(Clone)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this one"))
    }
}

#[test]
fn a_file_is_replaced_as_a_whole_or_not_at_all() {
    let folder = std::env::temp_dir().join(format!("larder-snapshot-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("cache.snapshot");
    let (cache, _hand) = usual();
    let missing = cache.load_from_file(&path).unwrap_err();
    let SnapshotError::Io(error) = &missing else { panic!("{missing:?}") };
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let reason = error.to_string();
    let told: Vec<_> = anyhow::Error::from(missing).chain().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains(&reason), "once: {told:?}");
    cache.insert(1, "one".to_owned());
    cache.save_to_file(&path).unwrap();
    cache.insert(2, "two".to_owned());
    cache.save_to_file(&path).unwrap();
    let (after, _hand) = usual();
    assert_eq!(after.load_from_file(&path).unwrap().restored, 2);

    let secrets: Cache<u64, Secret> = Cache::new(10);
    secrets.insert(1, Secret);
    let error = secrets.save_to_file(&path).unwrap_err();
    assert!(matches!(error, SnapshotError::Serialize { .. }), "{error}");
    assert_eq!(after.load_from_file(&path).unwrap().skipped, 2, "the old file is still there");
    let left: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["cache.snapshot"], "and nothing beside it");
    let nowhere = folder.join("no/such/folder");
    assert!(matches!(cache.save_to_file(nowhere), Err(SnapshotError::Io(_))));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_value_that_would_come_back_as_another_one_is_refused_by_name() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Price {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nick: Option<String>,
        flags: u8,
        cents: u32,
    }
    let price = |nick: Option<&str>| Price { nick: nick.map(str::to_owned), flags: 0, cents: 300 };
    let before: Cache<u64, Price> = Cache::new(100);
    before.insert(1, price(Some("a")));
    let path = std::env::temp_dir().join(format!("larder-skip-{}", std::process::id()));
    before.save_to_file(&path).unwrap();
    before.insert(2, price(None));
    let error = before.save_to_file(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an entry could not be serialized: the field `nick` of `Price` is left out (`skip_serializing_if`), and \
         without field names the bytes would be read as another value: always write it; see the `Serialize` \
         of its types"
    );
    // what was saved before is still there
    let after: Cache<u64, Price> = Cache::new(100);
    assert_eq!(after.load_from_file(&path).unwrap().restored, 1);
    assert_eq!(after.get(&1), Some(price(Some("a"))));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_shorter_time_to_live_holds_for_what_is_restored_too() {
    let (before, hand) = usual();
    before.insert(1, "one".to_owned());
    before.at(&2).ttl(Duration::MAX).insert("two".to_owned());
    hand.advance(secs(10));
    before.insert(3, "three".to_owned());
    let bytes = saved(&before);

    let left = |cache: &Shelf, key| cache.peek(&key).map(|got| got.fresh_for);
    let (shorter, _hand) = shelf(|builder| builder.time_to_live(secs(30)));
    assert_eq!(counts(load(&shorter, &bytes, secs(5))), [3, 0, 0]);
    assert_eq!(left(&shorter, 1), Some(secs(15)), "30 s from when it was stored");
    assert_eq!(left(&shorter, 3), Some(secs(25)));
    assert!(left(&shorter, 2) <= Some(secs(30)), "a life of its own, too");
    let (as_before, _hand) = usual();
    load(&as_before, &bytes, secs(5));
    assert_eq!(left(&as_before, 2), Some(Duration::MAX));

    // one is introduced
    let (endless, _hand) = shelf(|builder| builder);
    endless.insert(1, "one".to_owned());
    let bytes = saved(&endless);
    assert_eq!(
        counts(load(&shelf(|builder| builder.time_to_live(secs(5))).0, &bytes, secs(2))),
        [1, 0, 0]
    );
    let (limited, _hand) = shelf(|builder| builder.time_to_live(secs(5)));
    load(&limited, &bytes, secs(2));
    assert_eq!(left(&limited, 1), Some(secs(3)));
}

#[test]
fn a_cached_not_found_is_newer_than_what_is_restored() {
    let (before, _hand) = usual();
    before.insert(1, "one".to_owned());
    let bytes = saved(&before);
    let (after, hand) = shelf(|builder| builder.negative_ttl(secs(10)));
    let ask = || after.get_or_load_optional(&1, || Ok::<Option<String>, ()>(None)).unwrap();
    assert_eq!(ask(), None);
    assert_eq!(counts(load(&after, &bytes, secs(5))), [0, 0, 1]);
    assert_eq!((ask(), after.stats().loads), (None, 1));
    hand.advance(secs(10));
    assert_eq!(counts(load(&after, &bytes, secs(15))), [1, 0, 0], "it does not hold any more");
}

#[test]
fn what_is_over_at_once_is_not_restored() {
    let before: Cache<u64, u64> = Cache::new(100);
    (0..50).for_each(|key| before.insert(key, key));
    let mut bytes = Vec::new();
    before.save_to(&mut bytes).unwrap();
    // without a window nobody could be served it
    let after: Cache<u64, u64> = Cache::new(100);
    let sum = Snapshot::new().revalidate(true).load_from(&after, &bytes[..]).unwrap();
    assert_eq!((sum.restored, sum.expired, after.len()), (0, 50, 0));
}

#[test]
fn what_is_written_meanwhile_keeps_nothing_else_from_coming_back() {
    /// Has a busy cache use others of its keys while it is read.
    struct Busy<'a>(&'a [u8], &'a Shelf, bool);
    impl Read for Busy<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if std::mem::take(&mut self.2) {
                (5_000..8_000).for_each(|key| self.1.insert(key, "new".to_owned()));
                (5_000..8_000).for_each(|key| drop(self.1.remove(&key)));
            }
            self.0.read(into)
        }
    }
    let (before, _hand) = usual();
    (0..2_000).for_each(|key| before.insert(key, "old".to_owned()));
    let bytes = saved(&before);
    let (after, _hand) = usual();
    let restored = Snapshot::new().at(noon()).load_from(&after, Busy(&bytes, &after, true));
    let [restored, _, skipped] = counts(restored.unwrap());
    assert!(restored >= 1_980, "{restored} restored, {skipped} skipped");
}
