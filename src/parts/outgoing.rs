//! Changes that are made in this cache and not in its second tier yet.
//!
//! They are noted under the lock of their key's shard, so they are here in the order in which the cache made
//! them, and one worker makes them in the tier in that order. Only the last change of a key counts: earlier
//! ones are taken out. As long as a change is here, the tier is not asked for its key, for it may still have
//! what was removed from the cache.

use self::state::{AT_ONCE, InLine, LastChange, MOST, State};
use crate::rules::tag::Tag;
use crate::rules::tier::{TierChange, TierError, TierTicket};
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use crate::words::tier_key::TierKey;
use crate::words::unpark::Unpark;
use crate::words::wakers::look_or_wait;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// With more changes than this, callers that make changes wait for the tier to keep up, if it does anything
/// at all: else a burst of writes would empty it. Loaded values are not passed on then.
const CROWD: usize = MOST / 2;

pub(crate) struct Outgoing<K, V> {
    state: Mutex<State<K, V>>,
}

/// The changes that the worker is making.
pub(crate) struct InHand<K, V> {
    numbers: Vec<u64>,
    pub(crate) changes: Vec<TierChange<K, V>>,
}

impl<K, V> InHand<K, V> {
    pub(crate) fn new() -> Self {
        Self { numbers: Vec::new(), changes: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A change that was noted.
#[must_use = "what it replaced is to be dropped where no lock is held"]
pub(crate) struct Noted<K, V> {
    /// Zero for a loaded value that was not noted.
    number: u64,
    /// The changes that need not be made any more.
    replaced: Vec<TierChange<K, V>>,
}

impl<K, V> Noted<K, V> {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The tickets of loaded values that will not be stored.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = (&TierKey, &TierTicket)> {
        self.replaced.iter().filter_map(TierChange::ticket)
    }
}

/// While it lives, the tier is not asked for anything: a change of many keys is about to be noted.
pub(crate) struct Announced<'a, K, V>(&'a Outgoing<K, V>);

impl<K, V> Drop for Announced<'_, K, V> {
    fn drop(&mut self) {
        self.0.state.lock().announced -= 1;
    }
}

impl<K, V> Outgoing<K, V> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::new()) }
    }

    /// Whether the tier knows everything that was done to a key, and so may be asked for it.
    pub(crate) fn is_settled(&self, key: &TierKey) -> bool {
        self.state.lock().is_settled(key)
    }

    /// Whether no change of a key is on its way to the tier, not even a loaded value.
    pub(crate) fn is_idle(&self, key: &TierKey) -> bool {
        let state = self.state.lock();
        state.concerns_none() && !state.of_keys.contains_key(key)
    }

    /// Says that a change of many keys is about to be noted.
    pub(crate) fn announce(&self) -> Announced<'_, K, V> {
        self.state.lock().announced += 1;
        Announced(self)
    }

    /// Whether a written value was noted after the change of that number.
    pub(crate) fn has_written_since(&self, number: u64) -> bool {
        self.state.lock().last_write > number
    }

    /// Whether the last change of a key is a written value that is not known to be in the tier, or expires one.
    pub(crate) fn is_writing(&self, key: &TierKey) -> bool {
        self.state.lock().is_write(key)
    }

    /// Somebody else has removed or expired all that has this tag, or everything: a written value that it is
    /// about, and that is not known to be in the tier, is to be removed after it.
    pub(crate) fn overtake(&self, tag: Option<&str>) -> Vec<Noted<K, V>> {
        let keys: Vec<TierKey> = {
            let state = self.state.lock();
            let writes = state.of_keys.iter().filter(|(_, last)| last.is_write);
            match tag {
                None => writes.map(|(key, _)| key.clone()).collect(),
                Some(tag) => {
                    let has_it = |tags: &[Tag]| tags.iter().any(|own| own.as_str() == tag);
                    let in_line = state.line.iter().filter_map(|waits| match &waits.change {
                        Some(TierChange::Write(key, entry)) if has_it(&entry.tags) => Some(key),
                        _ => None,
                    });
                    let in_hand = state.tagged_in_hand.iter();
                    let in_hand = in_hand.filter(|(_, tags)| has_it(tags)).map(|(key, _)| key);
                    let keys = in_line.chain(in_hand);
                    keys.filter(|key| state.is_write(key)).cloned().collect()
                }
            }
        };
        // no life goes on in a removal
        keys.into_iter().map(|key| self.note(TierChange::Remove(key), 0)).collect()
    }

    /// Notes a change that is to be made in the tier too, and when that was. Runs no user code: it is called
    /// with the lock of a shard held.
    pub(crate) fn note(&self, mut change: TierChange<K, V>, now: Tick) -> Noted<K, V> {
        let mut state = self.state.lock();
        let mut replaced = Vec::new();
        let is_load = matches!(change, TierChange::Load(..));
        let gives_way =
            state.len() > CROWD || change.key().is_some_and(|key| !state.is_settled(key));
        if is_load && gives_way {
            // what was done to the key since is newer than the loaded value
            replaced.push(change);
            return Noted { number: 0, replaced };
        }
        state.last += 1;
        let number = state.last;
        if let Some(key) = change.key().cloned() {
            let is_write = matches!(change, TierChange::Write(..));
            if is_write {
                state.last_write = number;
            }
            let last = LastChange { number, first: number, is_load, is_write };
            if let Some(before) = state.of_keys.insert(key.clone(), last) {
                let taken_out = state.replace(&key, before);
                let is_known =
                    taken_out.as_ref().is_none_or(|it| matches!(it, TierChange::Expire(_)));
                if matches!(change, TierChange::Expire(_)) {
                    if is_known {
                        state.expires(&key, before);
                    } else {
                        // the tier would serve an older value stale than the one that was cached last
                        change = TierChange::Remove(key);
                    }
                }
                replaced.extend(taken_out);
            }
        } else {
            state.of_all.insert(number, number);
        }
        state.line.push_back(InLine { number, change: Some(change), since: now });
        state.bound(number, now, &mut replaced);
        let worker = state.worker.take();
        drop(state);
        if let Some(worker) = worker {
            worker.wake();
        }
        Noted { number, replaced }
    }

    /// The worker takes the next changes, as old as they are `now`, or is woken when there are some. `None` if
    /// there will be no more.
    pub(crate) fn poll_take(&self, waker: &Waker, now: Tick) -> Poll<Option<InHand<K, V>>> {
        let mut state = self.state.lock();
        let mut hand = InHand::new();
        while hand.changes.len() < AT_ONCE {
            match state.line.pop_front() {
                Some(InLine { number, change: Some(mut change), since }) => {
                    change.has_waited(now.saturating_sub(since));
                    hand.numbers.push(number);
                    hand.changes.push(change);
                }
                Some(InLine { change: None, .. }) => {}
                None => break,
            }
        }
        state.tagged_in_hand.extend(hand.changes.iter().filter_map(|change| match change {
            TierChange::Write(key, entry) if !entry.tags.is_empty() => {
                Some((key.clone(), entry.tags.clone()))
            }
            _ => None,
        }));
        if !hand.is_empty() {
            return Poll::Ready(Some(hand));
        }
        // the last change noted may have been a loaded value that was given up
        let last = state.last;
        let waiting = state.reach(last);
        let taken = if state.closed_until.is_some() {
            Poll::Ready(None)
        } else {
            state.worker = Some(waker.clone());
            Poll::Pending
        };
        drop(state);
        waiting.wake();
        taken
    }

    /// These changes are made, or need not be made any more.
    pub(crate) fn made(&self, hand: InHand<K, V>) {
        let waiting = {
            let mut state = self.state.lock();
            state.settle(&hand);
            state.tagged_in_hand.clear();
            state.failed = None;
            state.is_stuck = false;
            state.waiting.take()
        };
        waiting.wake();
        drop(hand);
    }

    /// These changes could not be made. Returns first what is to be tried again: not what was changed once
    /// more meanwhile, nor loaded values, in hand or in the line, because their tickets are valid only for a
    /// while; and a written value is tried again as its removal, for it may have arrived, and something newer
    /// after it. Returns second what is not tried again, to be dropped by a caller that keeps a panic in a
    /// drop from taking the rest along.
    pub(crate) fn failed(
        &self,
        hand: InHand<K, V>,
        error: TierError,
    ) -> (InHand<K, V>, InHand<K, V>) {
        let InHand { numbers, changes } = hand;
        let last = numbers.last().copied().unwrap_or(0);
        let (mut again, mut moot) = (InHand::new(), InHand::new());
        let waiting = {
            let mut state = self.state.lock();
            state.drop_loads(&mut moot.changes);
            // no value is tried again
            state.tagged_in_hand.clear();
            for (number, change) in numbers.into_iter().zip(changes) {
                // a load of the worker's is not among them any more
                let is_last = state.is_last(number, change.key());
                match change.key() {
                    // what the tier has is what was to be expired
                    Some(_) if matches!(change, TierChange::Expire(_)) => {}
                    Some(key) if !is_last => state.harden(key),
                    _ => {}
                }
                let to = if is_last { &mut again } else { &mut moot };
                to.numbers.push(number);
                match change {
                    TierChange::Write(key, entry) if is_last => {
                        moot.changes.push(TierChange::Write(key.clone(), entry));
                        again.changes.push(TierChange::Remove(key));
                    }
                    change => to.changes.push(change),
                }
            }
            if again.is_empty() {
                state.made = state.made.max(last);
            }
            // a replaced change has failed as well, and is made only together with the one that replaced it
            let is_left = !again.is_empty() || state.is_replaced(last);
            state.failed = is_left.then_some(error);
            state.waiting.take()
        };
        waiting.wake();
        (again, moot)
    }

    /// Ready when the change of that number was made; or when it, or one before it, has failed and will be
    /// tried again.
    pub(crate) fn poll_made(&self, number: u64, waker: &Waker) -> Poll<Result<(), TierError>> {
        look_or_wait(&self.state, waker, |state| {
            if number <= state.made && !state.is_replaced(number) {
                return Ok(Ok(()));
            }
            match &state.failed {
                Some(error) => Ok(Err(error.clone())),
                None if state.is_over => Ok(Err(TierError::TimedOut)),
                None => Err(&mut state.waiting),
            }
        })
    }

    /// Ready when there is room for more changes, or it is no use to wait for that.
    pub(crate) fn poll_room(&self, waker: &Waker) -> Poll<()> {
        look_or_wait(&self.state, waker, |state| {
            let is_in_vain = state.is_stuck || state.failed.is_some() || state.is_over;
            if state.len() <= CROWD || is_in_vain { Ok(()) } else { Err(&mut state.waiting) }
        })
    }

    /// Somebody has waited for room for long enough.
    pub(crate) fn is_stuck(&self) {
        self.state.lock().is_stuck = true;
    }

    /// No more changes will come. Those that are left are all tried `within` this time, also after others have
    /// failed.
    pub(crate) fn close(&self, within: Duration) {
        let until = Instant::now() + within;
        let worker = {
            let mut state = self.state.lock();
            state.closed_until = Some(until);
            state.worker.take()
        };
        if let Some(worker) = worker {
            worker.wake();
        }
    }

    /// Waits before failed changes are tried again. `false` if there is no time for that: no more changes
    /// will come, and whoever drops the cache waits.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let waker = Waker::from(Unpark::this());
        loop {
            {
                let mut state = self.state.lock();
                if state.closed_until.is_some() {
                    return false;
                }
                // new changes wake it too, but they can wait
                state.worker = Some(waker.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !rest(left) {
                return true;
            }
        }
    }

    /// Whether the next changes are to be tried although the last ones have failed for good.
    pub(crate) fn has_time(&self) -> bool {
        self.state.lock().closed_until.is_none_or(|until| Instant::now() < until)
    }

    /// The worker ends.
    pub(crate) fn over(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_over = true;
            state.waiting.take()
        };
        waiting.wake();
    }

    /// Ready when the worker has ended.
    pub(crate) fn poll_over(&self, waker: &Waker) -> Poll<()> {
        look_or_wait(&self.state, waker, |state| {
            if state.is_over { Ok(()) } else { Err(&mut state.waiting) }
        })
    }

    /// The number of the last change.
    pub(crate) fn last(&self) -> u64 {
        self.state.lock().last
    }

    /// How many changes are not made yet.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().len()
    }
}

/// Waits to be woken, but not longer than `left`. Returns whether there may be time left.
#[cfg(not(any(larder_loom, larder_shuttle)))]
fn rest(left: Duration) -> bool {
    crate::words::sync::park_timeout(left);
    true
}

/// The explorers know no time.
#[cfg(any(larder_loom, larder_shuttle))]
fn rest(_: Duration) -> bool {
    crate::words::sync::thread::yield_now();
    false
}

mod state;
#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests;
