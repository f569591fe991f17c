//! Tags that are removed or expired during loads: `FusionCache` #628.

use super::explore::explore;
use super::setting::{KEY, Moments, Shelf, builder};
use crate::Loaded;
use shuttle::future::{block_on, spawn, yield_now};
use shuttle::thread;
use std::convert::Infallible;

fn shelf() -> Shelf {
    let day = std::time::Duration::from_secs(86_400);
    builder().0.max_entries(100).shards(2).time_to_live(day).build().unwrap()
}

/// Who says the tag of a value: the caller of a load, or the loader, when it is done, or the caller of a change.
#[derive(Clone, Copy)]
enum Says {
    Caller,
    Loader,
    Changer,
}

fn change(shelf: &Shelf, moments: &Moments) -> u64 {
    let changed = shelf.at(&KEY).tag("t").alter(|_| {
        let begun = moments.next();
        thread::yield_now();
        Some(begun)
    });
    changed.unwrap()
}

fn load(shelf: &Shelf, moments: &Moments, says: Says) -> u64 {
    if let Says::Changer = says {
        return change(shelf, moments);
    }
    let at = shelf.at(&KEY);
    let at = if let Says::Caller = says { at.tag("t") } else { at };
    let load = |_: &_| {
        let begun = moments.next();
        thread::yield_now();
        let loaded = Loaded::new(begun);
        Ok::<_, Infallible>(if let Says::Loader = says { loaded.tag("t") } else { loaded })
    };
    at.load(load).unwrap().value
}

async fn load_async(shelf: &Shelf, moments: &Moments, says: Says) -> u64 {
    if let Says::Changer = says {
        return change(shelf, moments);
    }
    let at = shelf.at(&KEY);
    let at = if let Says::Caller = says { at.tag("t") } else { at };
    let load = |_| async {
        let begun = moments.next();
        yield_now().await;
        let loaded = Loaded::new(begun);
        Ok::<_, Infallible>(if let Says::Loader = says { loaded.tag("t") } else { loaded })
    };
    at.load_async(load).await.unwrap().value
}

/// A value tells when its load began, and a removal when it did: after it has returned, nobody gets
/// a value that is older.
fn nobody_sees_what_is_older_than(says: Says, write: fn(&Shelf)) {
    explore(move || {
        let (shelf, moments, written) = (shelf(), Moments::default(), Moments::default());
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (shelf, moments, written) = (shelf.clone(), moments.clone(), written.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let floor = written.count();
                        let value = load(&shelf, &moments, says);
                        assert!(value >= floor, "{value} is older than {floor}");
                    }
                })
            })
            .collect();
        let task = spawn({
            let (shelf, moments, written) = (shelf.clone(), moments.clone(), written.clone());
            async move {
                let floor = written.count();
                let value = load_async(&shelf, &moments, says).await;
                assert!(value >= floor, "{value} is older than {floor}");
            }
        });
        let writer = thread::spawn({
            let (shelf, moments, written) = (shelf.clone(), moments.clone(), written.clone());
            move || {
                for _ in 0..2 {
                    let begun = moments.next();
                    write(&shelf);
                    written.reach(begun);
                    thread::yield_now();
                }
            }
        });
        let reader = thread::spawn({
            let (shelf, written) = (shelf.clone(), written.clone());
            move || {
                for n in 0..3 {
                    let floor = written.count();
                    let value = shelf.get(&KEY);
                    assert!(value.is_none_or(|value| value >= floor), "{value:?} < {floor}");
                    // what nobody has yet, or no more, comes and goes meanwhile
                    shelf.at(&(100 + n)).tag("other").insert(0);
                    shelf.remove(&(100 + n));
                    shelf.sweep();
                }
            }
        });
        for thread in callers.into_iter().chain([writer, reader]) {
            thread.join().unwrap();
        }
        block_on(task).unwrap();
        let (value, floor) = (shelf.get(&KEY), written.count());
        assert!(value.is_none_or(|value| value >= floor), "{value:?} is older than {floor}");
        assert_eq!(shelf.flights(), 0);
        shelf.validate();
    });
}

#[test]
fn a_tag_that_is_removed_during_a_load() {
    nobody_sees_what_is_older_than(Says::Caller, |shelf| shelf.remove_tag("t"));
}

#[test]
fn a_tag_that_is_removed_during_a_load_that_names_it_at_the_end() {
    nobody_sees_what_is_older_than(Says::Loader, |shelf| shelf.remove_tag("t"));
}

#[test]
fn a_tag_that_is_expired_during_a_load() {
    nobody_sees_what_is_older_than(Says::Caller, |shelf| shelf.expire_tag("t"));
}

#[test]
fn a_tag_that_is_expired_during_a_load_that_names_it_at_the_end() {
    nobody_sees_what_is_older_than(Says::Loader, |shelf| shelf.expire_tag("t"));
}

#[test]
fn a_tag_that_is_removed_during_a_change_that_names_it() {
    nobody_sees_what_is_older_than(Says::Changer, |shelf| shelf.remove_tag("t"));
}

#[test]
fn a_tag_that_is_expired_during_a_change_that_names_it() {
    nobody_sees_what_is_older_than(Says::Changer, |shelf| shelf.expire_tag("t"));
}
