//! A write-behind queue in front of which the cache is used in every way that may take a value out of it, or
//! bring another one.

use super::behind::Source;
use super::explore::{draw, explore};
use super::setting::{KEY, Moments, Shelf, builder};
use crate::WriteBehind;
use shuttle::thread;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Nobody is told of anything older than what was accepted before he came, and the source ends with the last.
#[test]
fn what_happens_to_the_cache_takes_nothing_from_the_queue() {
    explore(|| {
        let source = Source::default();
        let room = 1 + draw(2) as u64;
        let shelf: Shelf = builder().0.max_entries(room).negative_ttl(DAY).build().unwrap();
        let queue = WriteBehind::builder(shelf.clone(), source.writer());
        let queue = queue.max_delay(Duration::ZERO).max_pending(1 + draw(2)).writers(1 + draw(2));
        let queue = queue.build().unwrap();
        // what was offered, in its order, and how much of that was accepted
        let (offered, accepted) = (Arc::new(Mutex::new(vec![None])), Moments::default());
        let putter = thread::spawn({
            let (queue, offered, accepted) = (queue.clone(), offered.clone(), accepted.clone());
            move || {
                for moment in 1..=3 {
                    let (how, at) = (draw(4), queue.at(&KEY).tag("t"));
                    let last = offered.lock().unwrap().last().copied().flatten();
                    offered.lock().unwrap().push((how > 0).then_some(moment));
                    match how {
                        0 => queue.delete(&KEY).unwrap(),
                        1 => queue.put(KEY, moment).unwrap(),
                        2 => at.put(moment).unwrap(),
                        _ => {
                            let change = |n: Option<u64>| {
                                assert!(n.is_none() || n == last, "{n:?} is not {last:?}");
                                Some(moment)
                            };
                            at.alter(change).unwrap();
                        }
                    }
                    accepted.reach(moment);
                }
            }
        });
        let others = (0..2).map(|_| {
            let (shelf, source, queue) = (shelf.clone(), source.clone(), queue.clone());
            let (offered, accepted) = (offered.clone(), accepted.clone());
            thread::spawn(move || {
                for _ in 0..3 {
                    let floor = accepted.count() as usize;
                    let is_current = |n| offered.lock().unwrap()[floor..].contains(&n);
                    match draw(9) {
                        0 => _ = shelf.remove(&KEY),
                        1 => shelf.clear(),
                        2 => shelf.remove_tag("t"),
                        3 => shelf.expire_tag("t"),
                        4 => _ = shelf.remove_if(|_, _| true),
                        5 => _ = shelf.alter(&KEY, |n| n),
                        6 => {
                            let load = |_: &[u32]| {
                                let brought = source.read(KEY).map(|n| (KEY, n));
                                Ok::<_, Infallible>([(KEY + 1, 0)].into_iter().chain(brought))
                            };
                            _ = shelf.get_or_load_many(&[KEY + 1], load);
                        }
                        7 => assert!(queue.get(&KEY).is_none_or(|n| is_current(Some(n)))),
                        _ => {
                            let load = || Ok::<_, Infallible>(source.read(KEY));
                            let n = shelf.get_or_load_optional(&KEY, load).unwrap();
                            assert!(is_current(n), "{n:?} is older than {floor}");
                        }
                    }
                }
            })
        });
        let others: Vec<_> = others.collect();
        others.into_iter().chain([putter]).for_each(|thread| thread.join().unwrap());
        queue.close().unwrap();
        let last = *offered.lock().unwrap().last().unwrap();
        assert_eq!(source.read(KEY), last);
        assert!(shelf.get(&KEY).is_none_or(|cached| Some(cached) == last));
        assert_eq!(shelf.flights(), 0);
        shelf.sweep();
        shelf.validate();
    });
}
