//! Write-behind: every accepted change is written, and nobody reads an older value.

use super::explore::{draw, explore};
use super::setting::{Fixed, KEY, Moments, Shelf, builder, shelf};
use crate::{Change, SteppingRuntime, WriteBehind, WriteBehindBuilder, WriteError, Writer};
use shuttle::sync::Mutex;
use shuttle::thread;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Reading and writing it take a moment each.
#[derive(Clone, Default)]
pub(super) struct Source(Arc<Mutex<HashMap<u32, u64>>>);

impl Source {
    /// What writes to it, and never fails.
    pub(super) fn writer(
        &self,
    ) -> impl Fn(&[Change<'_, u32, u64>]) -> Result<(), ()> + Send + Sync + use<> {
        let source = self.clone();
        move |batch| {
            source.write(batch);
            Ok(())
        }
    }

    pub(super) fn read(&self, key: u32) -> Option<u64> {
        let read = self.0.lock().unwrap().get(&key).copied();
        thread::yield_now();
        read
    }

    fn write(&self, batch: &[Change<'_, u32, u64>]) {
        for change in batch {
            thread::yield_now();
            let mut rows = self.0.lock().unwrap();
            match *change {
                Change::Put(key, value) => _ = rows.insert(*key, *value),
                Change::Delete(key) => _ = rows.remove(key),
            }
        }
    }
}

/// A reader sees what was accepted before it came, or something newer, and the source ends with
/// the last that was; with a `close` in the middle, too.
fn nothing_accepted_is_lost(evicts: bool, closes: bool) {
    explore(move || {
        let (shelf, source) = (shelf(), Source::default());
        let queue = WriteBehind::builder(shelf.clone(), {
            let source = source.clone();
            move |batch: &[Change<'_, u32, u64>]| {
                source.write(batch);
                Ok::<_, Infallible>(())
            }
        })
        .max_pending(1 + draw(2))
        .max_delay(Duration::ZERO)
        .writers(1 + draw(2))
        .build()
        .unwrap();
        let (moments, accepted) = (Moments::default(), Moments::default());
        let putter = thread::spawn({
            let (queue, accepted, moments) = (queue.clone(), accepted.clone(), moments.clone());
            move || {
                let mut last = None;
                for _ in 0..3 {
                    let moment = moments.next();
                    match queue.put(KEY, moment) {
                        Ok(()) => last = Some(moment),
                        Err(error) => {
                            assert_eq!(error, WriteError::Closed);
                            break;
                        }
                    }
                    accepted.reach(moment);
                }
                last
            }
        });
        // other keys take the room
        let other = thread::spawn({
            let queue = queue.clone();
            move || (0..2).take_while(|n| queue.put(KEY + 1 + n, 0).is_ok()).count()
        });
        let reader = thread::spawn({
            let (shelf, source, accepted) = (shelf.clone(), source.clone(), accepted.clone());
            move || {
                for _ in 0..3 {
                    let floor = accepted.count();
                    let load = || Ok::<_, Infallible>(source.read(KEY));
                    let value = shelf.get_or_load_optional(&KEY, load).unwrap().unwrap_or(0);
                    assert!(value >= floor, "{value} is older than {floor}");
                    if evicts {
                        shelf.remove(&KEY);
                    }
                }
            }
        });
        let flusher = thread::spawn({
            let (queue, source, accepted) = (queue.clone(), source.clone(), accepted.clone());
            move || {
                let floor = accepted.count();
                if closes {
                    return queue.close().unwrap();
                }
                queue.flush().unwrap();
                let written = source.0.lock().unwrap().get(&KEY).copied().unwrap_or(0);
                assert!(written >= floor, "flushed, and {written} is older than {floor}");
            }
        });
        let last = putter.join().unwrap();
        let others = other.join().unwrap();
        reader.join().unwrap();
        flusher.join().unwrap();
        queue.close().unwrap();
        let rows = source.0.lock().unwrap();
        assert_eq!(rows.get(&KEY).copied(), last);
        assert_eq!(rows.len(), others + usize::from(last.is_some()));
        assert!(shelf.get(&KEY).is_none_or(|value| Some(value) == last), "{last:?}");
        drop(rows);
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

#[test]
fn write_behind_reads_its_own_writes() {
    nothing_accepted_is_lost(false, false);
}

#[test]
fn write_behind_reads_its_own_evicted_writes() {
    nothing_accepted_is_lost(true, false);
}

#[test]
fn write_behind_writes_what_was_accepted_before_it_closed() {
    nothing_accepted_is_lost(true, true);
}

/// Two who put at once: the queue knows who was last, and the cache has that or nothing.
#[test]
fn write_behind_orders_those_who_put_at_once() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let queue = WriteBehind::builder(shelf.clone(), {
            let source = source.clone();
            move |batch: &[Change<'_, u32, u64>]| {
                source.write(batch);
                Ok::<_, Infallible>(())
            }
        })
        .max_delay(Duration::ZERO)
        .build()
        .unwrap();
        let threads: Vec<_> = (1..=2)
            .map(|value| {
                let queue = queue.clone();
                thread::spawn(move || {
                    if value == 2 && draw(2) == 0 {
                        queue.delete(&KEY).unwrap();
                    } else {
                        queue.put(KEY, value).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let cached = shelf.get(&KEY);
        queue.close().unwrap();
        let written = source.read(KEY);
        assert!(cached.is_none() || cached == written, "{cached:?}, but {written:?} is written");
        shelf.validate();
    });
}

/// Failures are tried again, in order, though time has to pass for it; a drop does not wait for it.
#[test]
fn write_behind_that_fails_loses_nothing() {
    explore(|| {
        let (builder, hand) = builder();
        let shelf: Shelf = builder.max_entries(100).build().unwrap();
        let source = Source::default();
        let lost = Arc::new(Mutex::new(Vec::new()));
        let queue = WriteBehind::builder(shelf.clone(), {
            let source = source.clone();
            move |batch: &[Change<'_, u32, u64>]| {
                if draw(3) == 0 {
                    return Err(());
                }
                source.write(batch);
                Ok(())
            }
        })
        .max_delay(Duration::ZERO)
        .retry(Duration::from_millis(10), Duration::from_millis(10))
        .on_give_up({
            let lost = lost.clone();
            move |unwritten| lost.lock().unwrap().push(unwritten.key)
        })
        .build()
        .unwrap();
        let putter = thread::spawn({
            let queue = queue.clone();
            move || (1..=3).for_each(|value| queue.put(KEY + value as u32 % 2, value).unwrap())
        });
        hand.advance(Duration::from_millis(10));
        putter.join().unwrap();
        if draw(2) == 0 {
            while queue.pending() > 0 {
                hand.advance(Duration::from_millis(10));
                thread::yield_now();
            }
            queue.flush().unwrap();
        }
        drop(queue);
        let (rows, lost) = (source.0.lock().unwrap(), lost.lock().unwrap());
        for (key, value) in [(KEY, 2), (KEY + 1, 3)] {
            assert!(rows.get(&key) == Some(&value) || lost.contains(&key));
            assert!(shelf.get(&key).is_none_or(|cached| cached == value && !lost.contains(&key)));
        }
        shelf.validate();
    });
}

/// A refresh asks the source, which does not have what was accepted: it must not begin before that
/// is written, nor land after it was accepted.
#[test]
fn a_refresh_does_not_bring_back_what_is_older_than_a_change() {
    explore(|| {
        let (builder, _hand) = builder();
        let (source, runtime) = (Source::default(), SteppingRuntime::new());
        let load = {
            let source = source.clone();
            move |key: &u32| Ok::<_, Infallible>(source.read(*key).unwrap_or(0))
        };
        let builder = builder.max_entries(100).runtime(runtime.clone());
        let cache = builder.build_loading_fn(load).unwrap();
        let shelf: Shelf = Shelf::clone(&cache);
        let queue = WriteBehind::builder(shelf, {
            let source = source.clone();
            move |batch: &[Change<'_, u32, u64>]| {
                source.write(batch);
                Ok::<_, Infallible>(())
            }
        })
        .max_delay(Duration::ZERO)
        .build()
        .unwrap();
        let accepted = Moments::default();
        let putter = thread::spawn({
            let (queue, accepted) = (queue.clone(), accepted.clone());
            move || {
                for moment in 1..=2 {
                    queue.put(KEY, moment).unwrap();
                    accepted.reach(moment);
                }
            }
        });
        let refresher = thread::spawn({
            let cache = cache.clone();
            move || {
                for _ in 0..2 {
                    cache.refresh(&KEY);
                    runtime.step();
                }
            }
        });
        for _ in 0..2 {
            let floor = accepted.count();
            let value = cache.load(&KEY).unwrap();
            assert!(value >= floor, "{value} is older than {floor}");
        }
        putter.join().unwrap();
        refresher.join().unwrap();
        assert_eq!(cache.load(&KEY).unwrap(), 2);
        queue.close().unwrap();
        assert_eq!(cache.load(&KEY).unwrap(), 2);
        cache.validate();
    });
}

/// A queue that writes at once, gives up at once, and asks `write` what the source does.
fn hasty(
    shelf: &Shelf,
    write: impl Fn(&[Change<'_, u32, u64>]) -> Result<(), ()> + Send + Sync + 'static,
) -> WriteBehindBuilder<u32, u64, impl Writer<u32, u64, Error = ()>, Fixed> {
    WriteBehind::builder(shelf.clone(), write).max_delay(Duration::ZERO).attempts(1)
}

/// What the key has, loaded where nobody knows.
fn known(shelf: &Shelf, source: &Source, value: Option<u64>) -> u64 {
    let load = || Ok::<_, Infallible>(source.read(KEY));
    let value = value.or_else(|| shelf.get_or_load_optional(&KEY, load).unwrap());
    value.unwrap_or(0)
}

/// Two who count, a writer between them, and somebody who takes the room of what they count.
#[test]
fn no_count_is_lost_behind_a_queue() {
    explore(|| {
        let (shelf, source) = (builder().0.max_entries(1).build().unwrap(), Source::default());
        let queue = hasty(&shelf, source.writer());
        let queue = queue.writers(1 + draw(2)).build().unwrap();
        assert_eq!(known(&shelf, &source, None), 0);
        let counters = (0..2).map(|_| {
            let (shelf, source, queue) = (shelf.clone(), source.clone(), queue.clone());
            thread::spawn(move || {
                let count = |n| Some(known(&shelf, &source, n) + 1);
                [(); 2].map(|()| queue.alter(&KEY, count).unwrap().unwrap())
            })
        });
        let counters: Vec<_> = counters.collect();
        for key in 0..draw(3) as u32 {
            shelf.insert(KEY + 1 + key, 0);
        }
        let counted = counters.into_iter().flat_map(|thread| thread.join().unwrap());
        let counted: HashSet<u64> = counted.collect();
        assert_eq!(counted, HashSet::from([1, 2, 3, 4]), "each saw the one before it");
        queue.close().unwrap();
        assert_eq!(source.read(KEY), Some(4));
        assert!(shelf.get(&KEY).is_none_or(|cached| cached == 4));
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

/// Two who count: the one whose change is overtaken on its way to the cache does not take the other's out.
#[test]
fn a_change_that_is_overtaken_leaves_the_newer_one_in_the_cache() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let queue = hasty(&shelf, source.writer());
        // nothing is written before all have counted
        let queue = queue.max_delay(Duration::from_secs(3_600)).build().unwrap();
        let counters = (0..2).map(|_| {
            let queue = queue.clone();
            thread::spawn(move || {
                queue.alter(&KEY, |n: Option<u64>| Some(n.unwrap_or(0) + 1)).unwrap()
            })
        });
        let counters: Vec<_> = counters.collect();
        let counted = counters.into_iter().map(|thread| thread.join().unwrap().unwrap());
        assert_eq!(counted.collect::<HashSet<_>>(), HashSet::from([1, 2]));
        assert_eq!(shelf.get(&KEY), Some(2));
        queue.close().unwrap();
        assert_eq!((source.read(KEY), shelf.get(&KEY)), (Some(2), Some(2)));
        shelf.validate();
    });
}

/// What is written is known here, though its caller has not come to show it.
#[test]
fn what_was_written_is_no_older_in_the_cache() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let queue = hasty(&shelf, source.writer());
        let queue = queue.build().unwrap();
        shelf.insert(KEY, 0);
        let putter = thread::spawn({
            let queue = queue.clone();
            move || queue.put(KEY, 1).unwrap()
        });
        queue.flush().unwrap();
        let written = source.read(KEY).unwrap_or(0);
        // what the source has by now has left the queue after this
        queue.flush().unwrap();
        assert!(shelf.get(&KEY).is_none_or(|cached| cached >= written));
        let changed = queue.alter(&KEY, |n| Some(known(&shelf, &source, n) + 10));
        let changed = changed.unwrap().unwrap();
        assert!(changed >= written + 10, "{changed} was made of less than {written}");
        putter.join().unwrap();
        queue.close().unwrap();
        let left = if changed == 11 { 11 } else { 1 };
        assert_eq!(source.read(KEY), Some(left));
        assert!(shelf.get(&KEY).is_none_or(|cached| cached == left));
        shelf.validate();
    });
}

/// A change is of what was put before it, or is put over.
#[test]
fn what_is_put_is_changed_or_stays() {
    explore(|| {
        let (shelf, source) = (shelf(), Source::default());
        let queue = hasty(&shelf, source.writer());
        let queue = queue.max_pending(1 + draw(2)).build().unwrap();
        let deletes = draw(2) == 0;
        queue.put(KEY, 1).unwrap();
        let putter = thread::spawn({
            let queue = queue.clone();
            move || {
                queue.put(KEY + 1, 0).unwrap();
                if deletes { queue.delete(&KEY) } else { queue.put(KEY, 10) }.unwrap();
            }
        });
        let changed = queue.alter(&KEY, |n| {
            thread::yield_now();
            Some(known(&shelf, &source, n) + 1)
        });
        putter.join().unwrap();
        queue.close().unwrap();
        let left = match (changed.unwrap(), deletes) {
            (Some(2), true) => None,
            (Some(2), false) => Some(10),
            (Some(1), true) => Some(1),
            (Some(11), false) => Some(11),
            (changed, _) => panic!("{changed:?} of nothing that was ever there"),
        };
        assert_eq!(source.read(KEY), left);
        assert!(shelf.get(&KEY).is_none_or(|cached| Some(cached) == left));
        shelf.validate();
    });
}

/// Everybody sets a bit of his own, in what the source has or will have: a bit that was given up on comes
/// back by nobody.
#[test]
fn nothing_is_made_of_what_was_given_up_on() {
    explore(|| {
        let ((shelf, hand), source) = (builder(), Source::default());
        let shelf: Shelf = shelf.max_entries(100).build().unwrap();
        let lost = Arc::new(Mutex::new(0));
        let queue = hasty(&shelf, {
            let source = source.clone();
            move |batch| {
                if draw(2) == 0 {
                    return Err(());
                }
                source.write(batch);
                Ok(())
            }
        });
        let queue = queue.on_give_up({
            let (source, lost) = (source.clone(), lost.clone());
            // its writer is here, and writes nothing meanwhile
            move |change| {
                *lost.lock().unwrap() |= change.value.unwrap() & !source.read(KEY).unwrap_or(0);
            }
        });
        let queue = queue.build().unwrap();
        let setters = (0..2).map(|thread| {
            let (shelf, source, queue) = (shelf.clone(), source.clone(), queue.clone());
            thread::spawn(move || {
                for bit in 0..2 {
                    let set = |n| Some(known(&shelf, &source, n) | 1 << (2 * thread + bit));
                    queue.alter(&KEY, set).unwrap();
                }
            })
        });
        let setters: Vec<_> = setters.collect();
        setters.into_iter().for_each(|thread| thread.join().unwrap());
        while queue.pending() > 0 {
            hand.advance(Duration::from_secs(1));
            thread::yield_now();
        }
        _ = queue.close();
        let (written, lost) = (source.read(KEY).unwrap_or(0), *lost.lock().unwrap());
        assert_eq!((written | lost, written & lost), (0b1111, 0), "{written:b} and {lost:b}");
        assert!(shelf.get(&KEY).is_none_or(|cached| cached == written));
        shelf.validate();
    });
}
