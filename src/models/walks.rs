//! Walks during writes: dashmap #74, moka #116.

use super::explore::{draw, explore};
use super::setting::{KEY, Shelf, builder};
use shuttle::thread;
use std::collections::HashMap;
use std::time::Duration;

/// More than one step of a walk takes, so that it lets go of the lock in between.
const STAY: u32 = 36;

/// How many groups its table has at each size follows from what it may hold. The groups of one size
/// need not end where those of the next one do.
fn shelf() -> Shelf {
    let shelf = builder().0.max_entries(100 + draw(200) as u64).build().unwrap();
    (0..STAY).for_each(|key| shelf.insert(key, 0));
    shelf
}

/// The table grows under the walk, and some entries come and go.
#[test]
fn entries_sees_each_once_while_the_table_grows() {
    explore(|| {
        let shelf = shelf();
        let writer = thread::spawn({
            let shelf = shelf.clone();
            move || {
                for key in STAY..STAY + 40 {
                    shelf.insert(key, 0);
                    if key % 4 == 0 {
                        shelf.remove(&key);
                    }
                }
            }
        });
        let mut seen = HashMap::new();
        for (key, _) in shelf.entries() {
            *seen.entry(key).or_insert(0) += 1;
        }
        assert!((0..STAY).all(|key| seen.contains_key(&key)), "what stays is seen");
        assert!(seen.values().all(|times| *times == 1), "once");
        writer.join().unwrap();
        shelf.validate();
    });
}

/// It removes what is there all along, and nothing that the predicate does not hold for.
#[test]
fn remove_if_finds_all_that_stays_while_the_table_grows() {
    explore(|| {
        let shelf = shelf();
        let writer = thread::spawn({
            let shelf = shelf.clone();
            move || (STAY..STAY + 40).for_each(|key| shelf.insert(key, 1))
        });
        assert_eq!(shelf.remove_if(|_, value| *value == 0), u64::from(STAY));
        writer.join().unwrap();
        assert!((0..STAY).all(|key| shelf.get(&key).is_none()));
        assert!((STAY..STAY + 40).all(|key| shelf.get(&key).is_some()));
        shelf.validate();
    });
}

/// What came after `remove_if` had looked is newer than the call, and stays.
#[test]
fn remove_if_leaves_what_was_replaced_meanwhile() {
    explore(|| {
        let (builder, hand) = builder();
        let shelf = builder.max_entries(100).build().unwrap();
        shelf.insert(KEY, 0);
        let writer = thread::spawn({
            let shelf = shelf.clone();
            move || {
                hand.advance(Duration::from_millis(1));
                shelf.insert(KEY, 1);
            }
        });
        assert!(shelf.remove_if(|_, value| *value == 0) <= 1);
        writer.join().unwrap();
        assert_eq!(shelf.get(&KEY), Some(1));
        shelf.validate();
    });
}
