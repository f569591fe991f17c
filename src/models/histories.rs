//! Linearizability: each key behaves as if its calls had come one after the other.

use super::explore::{draw, explore};
use super::search::{Did, HistoryStep, is_linearizable};
use super::setting::{Moments, Shelf, builder};
use crate::{Got, How, LoadError};
use shuttle::future::block_on;
use shuttle::thread;
use std::convert::Infallible;

const KEYS: u32 = 2;

/// One caller, with what it saw, by key.
struct RecordedCaller {
    shelf: Shelf,
    moments: Moments,
    saw: Vec<(u32, HistoryStep)>,
}

impl RecordedCaller {
    fn note(&mut self, key: u32, begin: u64, did: Did) {
        let end = self.moments.next();
        self.saw.push((key, HistoryStep { begin, end, did }));
    }

    fn call(&mut self) {
        let key = draw(KEYS as usize) as u32;
        let begin = self.moments.next();
        match draw(11) {
            0 | 1 => {
                let found = self.shelf.get(&key);
                self.note(key, begin, Did::Read(found));
            }
            2 => {
                self.shelf.insert(key, begin);
                self.note(key, begin, Did::Insert(begin));
            }
            3 => {
                let found = self.shelf.remove(&key);
                self.note(key, begin, Did::Remove(found));
            }
            4 => {
                if draw(4) > 0 {
                    return self.load(key, begin, true);
                }
                self.shelf.clear();
                (0..KEYS).for_each(|key| self.note(key, begin, Did::Clear));
            }
            5 if draw(2) == 0 => {
                let was_there = self.shelf.expire(&key);
                self.note(key, begin, Did::Expire(was_there));
            }
            5 => {
                let found = self.shelf.peek(&key).map(|got| got.value);
                self.note(key, begin, Did::Read(found));
            }
            6 | 7 => {
                let mut seen = None;
                let new = self.shelf.alter(&key, |found| {
                    seen = found;
                    thread::yield_now();
                    (draw(4) > 0).then_some(begin)
                });
                self.note(key, begin, Did::Alter(seen, new));
            }
            n => self.load(key, begin, n % 2 == 0),
        }
    }

    /// A load begins, and ends, at moments of its own: what it did, it did between the call and the
    /// one, and between the other and the return.
    fn load(&mut self, key: u32, begin: u64, is_async: bool) {
        let mut ran = None;
        let moments = self.moments.clone();
        let result: Result<Got<u64>, LoadError<Infallible>> = if is_async {
            let call = self.shelf.at(&key).load_async(|_| {
                let load = moments.next();
                let ran = &mut ran;
                async move {
                    shuttle::future::yield_now().await;
                    *ran = Some((load, moments.next()));
                    Ok(load)
                }
            });
            block_on(call)
        } else {
            self.shelf.at(&key).load(|_| {
                let load = moments.next();
                thread::yield_now();
                ran = Some((load, moments.next()));
                Ok(load)
            })
        };
        let got = result.unwrap();
        let did = match (got.how, ran) {
            (How::Fresh, None) => Did::Read(Some(got.value)),
            (How::Joined, None) => Did::Follow(got.value),
            (How::Loaded, Some((load, ended))) => {
                self.saw.push((key, HistoryStep { begin, end: load, did: Did::Lead(load) }));
                let is_stored = !got.fresh_for.is_zero();
                let did = if is_stored { Did::Store(load) } else { Did::Fenced(load) };
                return self.note(key, ended, did);
            }
            other => panic!("{other:?}"),
        };
        self.note(key, begin, did);
    }
}

fn histories_are_linearizable(callers: usize, calls: usize, shards: usize) {
    explore(move || {
        let shelf = builder().0.max_entries(100).shards(shards).build().unwrap();
        let moments = Moments::default();
        let threads: Vec<_> = (0..callers)
            .map(|_| {
                let (shelf, moments) = (shelf.clone(), moments.clone());
                thread::spawn(move || {
                    let mut caller = RecordedCaller { shelf, moments, saw: Vec::new() };
                    (0..calls).for_each(|_| caller.call());
                    caller.saw
                })
            })
            .collect();
        let mut saw: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        // and what is there in the end
        let mut last = RecordedCaller { shelf: shelf.clone(), moments, saw: Vec::new() };
        for key in 0..KEYS {
            let begin = last.moments.next();
            last.note(key, begin, Did::Read(shelf.get(&key)));
        }
        saw.append(&mut last.saw);
        for key in 0..KEYS {
            let mut history: Vec<_> =
                saw.iter().filter(|(of, _)| *of == key).map(|(_, step)| *step).collect();
            history.sort_unstable_by_key(|step| step.begin);
            assert!(is_linearizable(&history), "key {key}: {history:#?}");
        }
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

#[test]
fn each_key_is_linearizable_for_three_callers() {
    histories_are_linearizable(3, 4, 1);
}

#[test]
fn each_key_is_linearizable_for_four_callers_in_two_shards() {
    histories_are_linearizable(4, 3, 2);
}
