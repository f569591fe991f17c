use super::*;
use crate::rules::tier::{TierEntry, TierTicket};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

type Changes = Outgoing<u32, u32>;

fn key(n: u32) -> TierKey {
    TierKey::of(&n)
}

fn write(n: u32, value: u32) -> TierChange<u32, u32> {
    TierChange::Write(key(n), TierEntry::new(n, Some(value)))
}

fn load(n: u32, value: u32) -> TierChange<u32, u32> {
    TierChange::Load(key(n), TierEntry::new(n, Some(value)), TierTicket::default())
}

fn take(changes: &Changes) -> InHand<u32, u32> {
    match changes.poll_take(Waker::noop(), 0) {
        Poll::Ready(Some(hand)) => hand,
        _ => InHand::new(),
    }
}

fn words(hand: &InHand<u32, u32>) -> Vec<String> {
    let word = |change: &TierChange<u32, u32>| match change {
        TierChange::Write(key, entry) => format!("{key}={}", entry.value.unwrap_or(0)),
        TierChange::Load(key, ..) => format!("{key}?"),
        TierChange::Remove(key) => format!("-{key}"),
        TierChange::Expire(key) => format!("~{key}"),
        TierChange::RemoveTag(_) | TierChange::ExpireTag(_) => "tag".to_owned(),
        TierChange::Clear => "clear".to_owned(),
    };
    hand.changes.iter().map(word).collect()
}

fn note_all(changes: &Changes, list: impl IntoIterator<Item = TierChange<u32, u32>>) {
    list.into_iter().for_each(|change| drop(changes.note(change, 0)));
}

fn failure() -> TierError {
    TierError::TimedOut
}

#[test]
fn a_key_is_settled_when_its_last_change_is_made() {
    let changes = Changes::new();
    assert!(changes.is_settled(&key(1)));
    note_all(&changes, [TierChange::Remove(key(1)), write(2, 7)]);
    let hand = take(&changes);
    note_all(&changes, [TierChange::Remove(key(1))]);
    changes.made(hand);
    assert_eq!((changes.is_settled(&key(1)), changes.is_settled(&key(2))), (false, true));
    let hand = take(&changes);
    changes.made(hand);
    assert!(changes.is_settled(&key(1)));
    assert_eq!(changes.len(), 0);
}

#[test]
fn while_all_keys_are_changed_none_is_settled() {
    let changes = Changes::new();
    note_all(&changes, [TierChange::RemoveTag("t".into())]);
    assert!(!changes.is_settled(&key(1)));
    let hand = take(&changes);
    assert!(!changes.is_settled(&key(1)));
    changes.made(hand);
    assert!(changes.is_settled(&key(1)));
}

#[test]
fn what_was_loaded_gives_way_to_all_that_was_done_to_its_key() {
    let changes = Changes::new();
    note_all(&changes, [load(1, 1)]);
    assert!(changes.is_settled(&key(1)), "it takes nothing away");
    note_all(&changes, [TierChange::Remove(key(1)), load(1, 2), load(2, 1), load(2, 2)]);
    assert_eq!(words(&take(&changes)), ["-#1:u32", "#2:u32?"]);
    note_all(&changes, [TierChange::Clear, load(3, 1)]);
    assert_eq!(words(&take(&changes)), ["clear"]);
}

#[test]
fn an_expiry_of_what_the_tier_has_not_seen_is_a_removal() {
    let changes = Changes::new();
    note_all(&changes, [write(1, 1), TierChange::Expire(key(1)), TierChange::Expire(key(2))]);
    assert_eq!(words(&take(&changes)), ["-#1:u32", "~#2:u32"]);
}

#[test]
fn what_is_expired_twice_is_expired() {
    let changes = Changes::new();
    note_all(&changes, [TierChange::Expire(key(1)), TierChange::Expire(key(1))]);
    let hand = take(&changes);
    assert_eq!(words(&hand), ["~#1:u32"]);
    note_all(&changes, [TierChange::Expire(key(1))]);
    let (hand, moot) = changes.failed(hand, failure());
    assert_eq!((hand.changes.len(), moot.changes.len()), (0, 1));
    assert_eq!(words(&take(&changes)), ["~#1:u32"]);
}

#[test]
fn what_fails_comes_again_but_for_values() {
    let changes = Changes::new();
    note_all(&changes, [write(1, 1), load(2, 1), TierChange::Clear, TierChange::Remove(key(3))]);
    let hand = take(&changes);
    note_all(&changes, [TierChange::Expire(key(3)), load(4, 1)]);
    let (hand, moot) = changes.failed(hand, failure());
    assert_eq!(words(&hand), ["-#1:u32", "clear"]);
    assert_eq!(moot.changes.len(), 3);
    changes.made(hand);
    // what would be expired there is not what was cached last
    assert_eq!(words(&take(&changes)), ["-#3:u32"]);
}

/// A waker that panics.
struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("expected: a waker");
    }
}

#[test]
fn a_waker_that_panics_costs_the_others_nothing() {
    let changes = Changes::new();
    let woken = Arc::new(Woken::default());
    let wait = |number| {
        for waker in [Waker::from(Arc::new(Bomb)), Waker::from(Arc::clone(&woken))] {
            assert!(changes.poll_made(number, &waker).is_pending());
        }
    };
    note_all(&changes, [TierChange::Remove(key(1)), TierChange::Remove(key(2))]);
    wait(changes.last());
    changes.made(take(&changes));
    note_all(&changes, [TierChange::Remove(key(3))]);
    wait(changes.last());
    changes.over();
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
}

/// Counts.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn who_waits_is_told_when_it_is_made_or_that_it_fails() {
    let changes = Changes::new();
    note_all(&changes, [TierChange::Remove(key(1))]);
    let first = changes.last();
    let waker = Waker::noop();
    assert!(changes.poll_made(first, waker).is_pending());
    let (hand, _) = changes.failed(take(&changes), failure());
    assert_eq!(changes.poll_made(first, waker), Poll::Ready(Err(failure())));
    note_all(&changes, [TierChange::Remove(key(2))]);
    let second = changes.last();
    assert_eq!(changes.poll_made(second, waker), Poll::Ready(Err(failure())), "it waits for it");
    changes.made(hand);
    assert_eq!(changes.poll_made(first, waker), Poll::Ready(Ok(())));
    assert!(changes.poll_made(second, waker).is_pending());
    changes.over();
    assert_eq!(changes.poll_made(second, waker), Poll::Ready(Err(failure())));
}

#[test]
fn who_waits_for_a_load_that_is_given_up_waits_for_nothing() {
    let changes = Changes::new();
    let waker = Waker::noop();
    note_all(&changes, [load(1, 1)]);
    let hand = take(&changes);
    note_all(&changes, [load(2, 1)]);
    let last = changes.last();
    assert!(changes.poll_made(last, waker).is_pending());
    let (hand, _) = changes.failed(hand, failure());
    assert!(hand.is_empty());
    assert!(take(&changes).is_empty());
    assert_eq!(changes.poll_made(last, waker), Poll::Ready(Ok(())));
}

#[test]
fn who_waits_for_what_was_replaced_waits_for_what_took_its_place() {
    let waker = Waker::noop();
    // moved back in the line, behind what the worker takes at once
    let changes = Changes::new();
    note_all(&changes, [TierChange::Remove(key(0))]);
    let first = changes.last();
    note_all(&changes, (1..=AT_ONCE as u32).map(|n| TierChange::Remove(key(n))));
    note_all(&changes, [TierChange::Remove(key(0))]);
    changes.made(take(&changes));
    assert!(changes.poll_made(first, waker).is_pending(), "it has not been removed yet");
    changes.made(take(&changes));
    assert_eq!(changes.poll_made(first, waker), Poll::Ready(Ok(())));
    // replaced while the worker has it in hand, which then fails
    for others in [0, 1] {
        let changes = Changes::new();
        note_all(&changes, [TierChange::Remove(key(0))]);
        let first = changes.last();
        note_all(&changes, (1..=others).map(|n| TierChange::Remove(key(n))));
        let hand = take(&changes);
        note_all(&changes, [TierChange::Remove(key(0))]);
        let (again, _) = changes.failed(hand, failure());
        assert_eq!(again.changes.len(), others as usize);
        assert_eq!(changes.poll_made(first, waker), Poll::Ready(Err(failure())));
        if others > 0 {
            changes.made(again);
            assert!(changes.poll_made(first, waker).is_pending());
        }
        changes.made(take(&changes));
        assert_eq!(changes.poll_made(first, waker), Poll::Ready(Ok(())));
    }
    // made before what took its place, of which nobody has to know
    let changes = Changes::new();
    note_all(&changes, [TierChange::Remove(key(0))]);
    let (first, hand) = (changes.last(), take(&changes));
    note_all(&changes, [TierChange::Remove(key(0))]);
    changes.made(hand);
    assert_eq!(changes.poll_made(first, waker), Poll::Ready(Ok(())));
}

#[test]
fn who_waits_for_one_of_too_many_waits_until_all_are_gone() {
    let (changes, waker) = (Changes::new(), Waker::noop());
    note_all(&changes, [TierChange::Remove(key(0))]);
    let (first, hand) = (changes.last(), take(&changes));
    for n in 1..=MOST as u32 {
        note_all(&changes, [TierChange::Remove(key(n))]);
    }
    let (again, _) = changes.failed(hand, failure());
    assert!(again.is_empty());
    assert_eq!(changes.poll_made(first, waker), Poll::Ready(Err(failure())));
    let hand = take(&changes);
    assert_eq!(words(&hand), ["clear"]);
    changes.made(hand);
    assert_eq!(changes.poll_made(changes.last(), waker), Poll::Ready(Ok(())));
    assert!(changes.state.lock().replacing.is_empty());
}

#[test]
fn one_key_that_changes_for_ever_takes_no_more_room() {
    let changes = Changes::new();
    for value in 0..100_000 {
        note_all(&changes, [write(1, value)]);
    }
    assert!(changes.state.lock().line.len() <= 2 + AT_ONCE + 1);
    assert_eq!(words(&take(&changes)), ["#1:u32=99999"]);
}

#[test]
fn too_many_become_one_and_what_is_in_hand_then_settles_nothing() {
    let changes = Changes::new();
    note_all(&changes, [TierChange::Clear, write(0, 1)]);
    let hand = take(&changes);
    for n in 1..MOST as u32 {
        note_all(&changes, [TierChange::Remove(key(n))]);
    }
    assert_eq!(changes.len(), 1);
    changes.made(hand);
    assert!(!changes.is_settled(&key(0)), "all of it is still to be emptied");
    let hand = take(&changes);
    assert_eq!(words(&hand), ["clear"]);
    changes.made(hand);
    assert_eq!(changes.len(), 0);
}

/// What the tier has of each key, as far as changes without loads say: the last word wins.
#[derive(Debug, Clone)]
enum Step {
    Write(u32, u32),
    Remove(u32),
    Clear,
    Work { fails: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u32, any::<u32>()).prop_map(|(n, value)| Step::Write(n, value)),
        3 => (0..4_u32).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        4 => any::<bool>().prop_map(|fails| Step::Work { fails }),
    ]
}

proptest! {
    #[test]
    fn in_the_end_the_tier_has_nothing_that_the_cache_has_not(steps in prop::collection::vec(step(), 0..60)) {
        let changes = Changes::new();
        let (mut cache, mut tier) = (BTreeMap::new(), BTreeMap::new());
        // what the cache has had of each key, with the number of the change that it came with
        let mut had: Vec<(u64, u32, Option<u32>)> = Vec::new();
        let mut hand = InHand::new();
        let mut work = |hand: &mut InHand<u32, u32>, fails: bool| {
            if hand.is_empty() {
                *hand = take(&changes);
            }
            // of what fails any part may have been made
            let made = if fails { hand.changes.len() / 2 } else { hand.changes.len() };
            for change in &hand.changes[..made] {
                match change {
                    TierChange::Write(key, entry) => _ = tier.insert(key.clone(), entry.value),
                    TierChange::Remove(key) => _ = tier.remove(key),
                    _ => tier.clear(),
                }
            }
            let done = std::mem::replace(hand, InHand::new());
            if fails && !done.is_empty() {
                *hand = changes.failed(done, failure()).0;
            } else {
                changes.made(done);
            }
            tier.clone()
        };
        for step in steps {
            match step {
                Step::Write(n, value) => {
                    note_all(&changes, [write(n, value)]);
                    cache.insert(key(n), Some(value));
                    had.push((changes.last(), n, Some(value)));
                }
                Step::Remove(n) => {
                    note_all(&changes, [TierChange::Remove(key(n))]);
                    cache.remove(&key(n));
                    had.push((changes.last(), n, None));
                }
                Step::Clear => {
                    note_all(&changes, [TierChange::Clear]);
                    cache.clear();
                    had.extend((0..4).map(|n| (changes.last(), n, None)));
                }
                Step::Work { fails } => {
                    let tier = work(&mut hand, fails);
                    for (key, value) in &tier {
                        // what is settled may be asked for
                        prop_assert!(!changes.is_settled(key) || cache.get(key) == Some(value));
                    }
                    for number in 1..=changes.last() {
                        if changes.poll_made(number, Waker::noop()) != Poll::Ready(Ok(())) {
                            continue;
                        }
                        for n in (0..4).filter(|n| tier.contains_key(&key(*n))) {
                            // who waited for that change finds nothing older
                            let of_key = || had.iter().filter(|(_, of, _)| *of == n);
                            let then = of_key().rfind(|(at, ..)| *at <= number);
                            let later = of_key().filter(|(at, ..)| *at > number);
                            let mut may_be = then.into_iter().chain(later);
                            prop_assert!(may_be.any(|(.., value)| *value == tier[&key(n)]));
                        }
                    }
                }
            }
        }
        let mut tier = work(&mut hand, false);
        while changes.len() > 0 {
            tier = work(&mut hand, false);
        }
        for (key, value) in &tier {
            prop_assert_eq!(cache.get(key), Some(value));
        }
        prop_assert!(changes.state.lock().replacing.is_empty());
    }
}

#[test]
fn what_is_left_has_its_time() {
    let changes = Changes::new();
    assert!(changes.has_time());
    changes.close(Duration::from_secs(3_600));
    assert!(changes.has_time() && !changes.pause(Duration::from_secs(3_600)));
    changes.close(Duration::ZERO);
    assert!(!changes.has_time());
}
