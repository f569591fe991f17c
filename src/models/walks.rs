//! Walking while others write: dashmap #74, moka #116.

use super::explore::explore;
use super::setting::builder;
use shuttle::thread;
use std::collections::HashMap;

/// More than one step of a walk takes, so that it lets go of the lock in between.
const STAY: u32 = 40;

/// The table grows under the walk, and some entries come and go.
#[test]
fn entries_sees_each_once_while_the_table_grows() {
    explore(|| {
        let shelf = builder().0.max_entries(200).build().unwrap();
        (0..STAY).for_each(|key| shelf.insert(key, 0));
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
        let shelf = builder().0.max_entries(200).build().unwrap();
        (0..STAY).for_each(|key| shelf.insert(key, 0));
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
