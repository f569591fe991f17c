//! Whether a history of one key is linearizable: whether its steps can have happened one after the other.
//!
//! The search of Wing and Gong (1993): take any step that began before any of the remaining ones ended, see
//! whether the map allows it, and go on; with Lowe's memory (2017) of states that led nowhere.

use std::collections::HashSet;

/// What a call did to the key, at one moment between its begin and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// Found this value, or none.
    Read(Option<u64>),
    Insert(u64),
    /// Found the one, and put the other in its place.
    Alter(Option<u64>, Option<u64>),
    /// Took it out, and found this value, or none.
    Remove(Option<u64>),
    /// Ended its life, if there was one.
    Expire(bool),
    /// Took out whatever there was, without a word about it.
    Clear,
    /// Found neither a value nor a load, and began one.
    Lead(u64),
    /// Found no value, and this load.
    Follow(u64),
    /// The load stored its value.
    Store(u64),
    /// The load had lost its key, and stored nothing.
    Fenced(u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryStep {
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) did: Did,
}

/// The map, for one key: its value, and the load that may still store.
type KeyState = (Option<u64>, Option<u64>);

/// The contract, sequentially. A load's number is its value.
fn apply((value, flight): KeyState, did: Did) -> Option<KeyState> {
    match did {
        Did::Read(found) => (found == value).then_some((value, flight)),
        // every write takes the flight off its key
        Did::Insert(new) => Some((Some(new), None)),
        Did::Alter(found, _) if found != value => None,
        Did::Alter(None, None) => Some((value, flight)),
        Did::Alter(_, new) => Some((new, None)),
        Did::Remove(found) => (found == value).then_some((None, None)),
        Did::Expire(was_there) => (was_there == value.is_some()).then_some((None, None)),
        Did::Clear => Some((None, None)),
        Did::Lead(load) => (value.is_none() && flight.is_none()).then_some((None, Some(load))),
        Did::Follow(load) => (value.is_none() && flight == Some(load)).then_some((value, flight)),
        Did::Store(load) => (flight == Some(load)).then_some((Some(load), None)),
        Did::Fenced(load) => (flight != Some(load)).then_some((value, flight)),
    }
}

pub(super) fn is_linearizable(history: &[HistoryStep]) -> bool {
    assert!(history.len() <= 64, "a set of steps is a word");
    search(history, 0, (None, None), &mut HashSet::new())
}

fn search(
    history: &[HistoryStep],
    taken: u64,
    state: KeyState,
    dead_ends: &mut HashSet<(u64, KeyState)>,
) -> bool {
    let left = |i: &usize| taken & 1 << i == 0;
    let Some(first_end) = (0..history.len()).filter(left).map(|i| history[i].end).min() else {
        return true;
    };
    if !dead_ends.insert((taken, state)) {
        return false;
    }
    (0..history.len()).filter(left).filter(|&i| history[i].begin < first_end).any(|i| {
        let next = apply(state, history[i].did);
        next.is_some_and(|next| search(history, taken | 1 << i, next, dead_ends))
    })
}

fn one_after_the_other(steps: &[Did]) -> Vec<HistoryStep> {
    let at = |(i, did): (usize, &Did)| HistoryStep {
        begin: 2 * i as u64,
        end: 2 * i as u64 + 1,
        did: *did,
    };
    steps.iter().enumerate().map(at).collect()
}

#[test]
fn what_cannot_have_happened_is_seen() {
    use Did::{Fenced, Insert, Lead, Read, Remove, Store};

    assert!(is_linearizable(&one_after_the_other(&[Lead(1), Store(1), Read(Some(1))])));
    assert!(is_linearizable(&one_after_the_other(&[Lead(1), Remove(None), Fenced(1), Read(None)])));
    for wrong in [
        [Lead(1), Remove(None), Store(1), Read(Some(1))],
        [Lead(1), Store(1), Remove(Some(1)), Read(Some(1))],
        [Lead(1), Insert(2), Fenced(1), Read(Some(1))],
        [Lead(1), Insert(2), Remove(Some(2)), Store(1)],
        [Lead(1), Lead(2), Store(1), Store(2)],
        [Lead(1), Fenced(1), Read(None), Read(None)],
    ] {
        assert!(!is_linearizable(&one_after_the_other(&wrong)), "{wrong:?}");
    }
    // at once, in either order: but one value is not two
    let at_once = |did| HistoryStep { begin: 0, end: 9, did };
    assert!(is_linearizable(&[Insert(1), Insert(2), Read(Some(1))].map(at_once)));
    assert!(!is_linearizable(&[Insert(1), Remove(Some(1)), Remove(Some(1))].map(at_once)));
}
