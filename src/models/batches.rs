//! Batches: several callers that load many keys at once, and want the same ones.

use super::explore::{draw, explore};
use super::futures::impatient;
use super::setting::{Moments, Shelf, shelf};
use crate::parts::ledger::Ledger;
use crate::parts::moments::Unasked;
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::thread;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How often each key was loaded, and is being loaded.
#[derive(Clone, Debug, Default)]
struct Loads(Arc<Mutex<BTreeMap<u32, (u64, u64)>>>);

impl Loads {
    fn begin(&self, keys: &[u32]) {
        let mut loads = self.0.lock().unwrap();
        for key in keys {
            let (all, now) = loads.entry(*key).or_default();
            *all += 1;
            *now += 1;
            assert_eq!(*now, 1, "{key} is loaded twice at once");
        }
    }

    fn end(&self, keys: &[u32]) -> Vec<(u32, u64)> {
        let mut loads = self.0.lock().unwrap();
        keys.iter().for_each(|key| loads.get_mut(key).unwrap().1 -= 1);
        keys.iter().map(|key| (*key, u64::from(*key))).collect()
    }

    fn most(&self) -> u64 {
        self.0.lock().unwrap().values().map(|(all, _)| *all).max().unwrap_or(0)
    }
}

fn ask(shelf: &Shelf, loads: &Loads, keys: &'static [u32]) -> thread::JoinHandle<()> {
    let (shelf, loads) = (shelf.clone(), loads.clone());
    thread::spawn(move || {
        let many = shelf.get_or_load_many(keys, |keys| {
            loads.begin(keys);
            thread::yield_now();
            Ok::<_, Infallible>(loads.end(keys))
        });
        let got: Vec<_> = many.got.iter().map(|(key, got)| (*key, got.value)).collect();
        let expected: Vec<_> = keys.iter().map(|key| (*key, u64::from(*key))).collect();
        assert_eq!(got, expected);
    })
}

/// Each leads what the others want: it leads its own first, and waits afterwards.
#[test]
fn batches_that_want_the_same_keys_crosswise() {
    explore(|| {
        let (shelf, loads) = (shelf(), Loads::default());
        let asked: [&[u32]; 3] = [&[1, 2, 3], &[3, 2, 1], &[2]];
        let threads = asked.map(|keys| ask(&shelf, &loads, keys));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(loads.most(), 1, "one load a key");
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// One of them may lose patience, and the others take its keys over.
#[test]
fn a_batch_that_is_dropped_hands_its_keys_on() {
    explore(|| {
        let (shelf, loads) = (shelf(), Loads::default());
        let task = spawn({
            let shelf = shelf.clone();
            async move {
                let load = |keys: Vec<u32>| async move {
                    yield_now().await;
                    let reply: Vec<_> = keys.iter().map(|key| (*key, u64::from(*key))).collect();
                    Ok::<_, Infallible>(reply)
                };
                let polls = draw(4);
                impatient(shelf.get_or_load_many_async(&[1, 2, 3], load), polls).await;
            }
        });
        let asked: [&[u32]; 2] = [&[3, 1], &[2, 3]];
        let threads = asked.map(|keys| ask(&shelf, &loads, keys));
        for thread in threads {
            thread.join().unwrap();
        }
        block_on(task).unwrap();
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// otter, Caffeine: what a reply brings besides never overwrites what is newer. A value is the
/// moment at which its load began, or the one at which it was written.
#[test]
fn what_a_reply_brings_besides_is_not_older_than_a_write() {
    explore(|| {
        const EXTRA: u32 = 9;
        let (shelf, moments, written) = (shelf(), Moments::default(), Moments::default());
        let removes = draw(2) == 0;
        let batches: Vec<_> = (0..2)
            .map(|key| {
                let (shelf, moments) = (shelf.clone(), moments.clone());
                thread::spawn(move || {
                    shelf.get_or_load_many(&[key], |_| {
                        let begun = moments.next();
                        thread::yield_now();
                        Ok::<_, Infallible>([(key, begun), (EXTRA, begun)])
                    });
                })
            })
            .collect();
        let writer = thread::spawn({
            let (shelf, moments, written) = (shelf.clone(), moments.clone(), written.clone());
            move || {
                let begun = moments.next();
                if removes {
                    shelf.remove(&EXTRA);
                } else {
                    shelf.insert(EXTRA, begun);
                }
                written.reach(begun);
            }
        });
        let loader = thread::spawn({
            let (shelf, moments, written) = (shelf.clone(), moments.clone(), written.clone());
            move || {
                let floor = written.count();
                let load = || {
                    let begun = moments.next();
                    thread::yield_now();
                    Ok::<_, Infallible>(begun)
                };
                let value = shelf.get_or_load(&EXTRA, load).unwrap();
                assert!(value >= floor, "{value} is older than {floor}");
            }
        });
        for thread in batches.into_iter().chain([writer, loader]) {
            thread.join().unwrap();
        }
        let value = shelf.get(&EXTRA);
        assert!(value.is_none_or(|value| value >= written.count()), "{value:?}");
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// No load of a batch that overlaps a write at the source stays, asked for or not.
#[test]
fn a_batch_and_a_write_through() {
    explore(|| {
        let (shelf, row) = (shelf(), Arc::new(AtomicU64::new(0)));
        let batch = thread::spawn({
            let (shelf, row) = (shelf.clone(), Arc::clone(&row));
            move || {
                let keys: &[u32] = if draw(2) == 0 { &[1] } else { &[1, 2] };
                shelf.get_or_load_many(keys, |_| {
                    thread::yield_now();
                    let value = row.load(Ordering::SeqCst);
                    thread::yield_now();
                    Ok::<_, Infallible>([(1, value), (2, value)])
                });
            }
        });
        let writer = thread::spawn({
            let (shelf, row) = (shelf.clone(), Arc::clone(&row));
            move || {
                let write = |_: &u32, value: &u64| {
                    thread::yield_now();
                    row.store(*value, Ordering::SeqCst);
                    thread::yield_now();
                    Ok::<_, Infallible>(())
                };
                shelf.write_through(2, 7, write).unwrap();
            }
        });
        batch.join().unwrap();
        writer.join().unwrap();
        assert!(shelf.get(&2).is_none_or(|value| value == 7), "the old value stayed");
        assert_eq!((shelf.flights(), shelf.fences()), (0, 0));
        shelf.validate();
    });
}

/// Two keys that share a place in the ledger: one is written while a batch stores the other unasked.
#[test]
fn a_write_beside_what_a_batch_stores_unasked_is_seen() {
    explore(|| {
        let ledger = Arc::new(Ledger::default());
        let unasked = Unasked::new(ledger.watch());
        let writer = thread::spawn({
            let ledger = Arc::clone(&ledger);
            move || ledger.note(1)
        });
        ledger.note_unasked(1, &unasked);
        writer.join().unwrap();
        assert!(!ledger.is_quiet_for(1, &unasked), "the batch would store over what was written");
        ledger.leave();
    });
}
