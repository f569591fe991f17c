//! Looking a key up: reading it, and deciding who loads it.

use super::Shard;
use super::entry::{Entry, Notes, Terms};
use super::outbox::Outbox;
use crate::parts::eviction::{Policy, SlotId};
use crate::parts::flight::{Begin, Flight, Landing};
use crate::parts::group::{HEAT, Hash, TAGGED};
use crate::parts::stack;
#[cfg(feature = "snapshot")]
use crate::parts::tags::Tagged;
use crate::rules::expiry::{Age, Lives, NEVER, Stamp, duration};
use crate::rules::got::{Got, How, StaleWhy};
use crate::rules::loaded::LoadReason;
use crate::words::clock::is_before;
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::any::TypeId;
use std::sync::Arc;

/// What a look-up found.
pub(crate) enum Looked<R> {
    /// A value within its life, or what was read of it.
    Value(R),
    /// The source was asked lately, and has none.
    Missing,
    /// Nothing that may be served.
    Nothing,
}

/// What is found at home.
pub(crate) enum AtHome<R> {
    /// A value that is fresh by the cheapest reading of the time, or what was read of it.
    Value(R),
    /// Nothing, and so there is nothing anywhere.
    Nothing,
    /// It takes a closer look, there or elsewhere.
    Unsure,
}

/// What a caller that found nothing is to do, decided in one critical section.
pub(crate) enum Role<K, V> {
    /// There is an answer now, fresh or stale: look again.
    Look,
    /// The last load of the key failed so, and the next one is held back.
    Failed(Landing<V>),
    /// Somebody is loading the key: wait for it.
    Follow(Arc<Flight<K, V>>),
    /// Load it. If it `revalidates`, everybody else is served the stale value meanwhile.
    Lead { flight: Arc<Flight<K, V>>, revalidates: bool },
}

/// A role, and beside it a flight that has just lost the key to its timeout, and is to be told.
pub(crate) struct Joined<K, V> {
    pub(crate) role: Role<K, V>,
    pub(crate) overdue: Option<Arc<Flight<K, V>>>,
}

/// What is to be done about a key as it stands: the decision alone, which changes nothing.
enum Verdict<'s, K, V> {
    Look,
    /// Serve the value of this slot past its life.
    Stale(SlotId, StaleWhy),
    Failed(&'s Landing<V>),
    Follow(&'s Arc<Flight<K, V>>),
    /// Take the flight that has the key off the board, and decide again.
    Instead(Instead),
    /// Load.
    Lead {
        is_absent: bool,
        reason: LoadReason,
        revalidates: bool,
    },
}

/// What is known of a load before it has its place among the others.
#[derive(Clone, Copy)]
pub(super) struct Beginning {
    pub(super) is_absent: bool,
    pub(super) reason: LoadReason,
    pub(super) in_batch: bool,
}

/// Why a flight has to make way for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// It began too early for this caller, or before something happened to its tags, or it has not
    /// begun and waits behind all misses.
    OfOlder,
    /// Its time is over.
    OfOverdue,
}

/// What a caller who may load says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Load also where it is known that the source has none.
    pub(crate) over_missing: bool,
    /// The load is one of several that one loader does at once: they are counted together.
    pub(crate) in_batch: bool,
    /// A value older than so many ticks is not for this caller, nor is a load that began before.
    pub(crate) max_age: u64,
    /// `force`: no value, and no load whose number is below this one; zero if it was not said.
    pub(crate) since: u64,
    /// The type of the errors that the caller can be told; one that has none is told no failure.
    pub(crate) error: Option<TypeId>,
}

impl Default for Ask {
    fn default() -> Self {
        Self { over_missing: false, in_batch: false, max_age: NEVER, since: 0, error: None }
    }
}

impl Ask {
    pub(crate) fn of<E: 'static>() -> Self {
        Self { error: Some(TypeId::of::<E>()), ..Self::default() }
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.since > 0
    }

    /// Whether the caller takes not just any value that the cache calls fresh.
    pub(crate) fn is_choosy(&self) -> bool {
        self.is_forced() || self.max_age < NEVER
    }

    /// Whether a value so many ticks old is one for this caller.
    pub(crate) fn accepts(&self, age: u64) -> bool {
        !self.is_forced() && age <= self.max_age
    }

    fn may_join<K, V>(&self, flight: &Flight<K, V>, now: Tick) -> bool {
        flight.number >= self.since && now.saturating_sub(flight.started()) <= self.max_age
    }

    fn can_be_told<V>(&self, landing: &Landing<V>) -> bool {
        match landing {
            Landing::Failed(error) => self.error == Some((**error).type_id()),
            _ => self.error.is_some(),
        }
    }
}

/// What a look-up asks about the time, if it comes to that.
pub(crate) trait Time {
    /// Whether `at` is still to come; `false` means that [`now`](Self::now) is to be asked.
    fn is_before(&self, at: Tick) -> bool;
    fn now(&self) -> Tick;
}

/// Whether a life lasts, by the cheapest reading of the time that tells.
#[inline]
fn is_fresh(stamp: Stamp, time: &impl Time) -> bool {
    time.is_before(stamp.expiry()) || stamp.is_for_ever() || stamp.is_fresh(time.now())
}

impl<K, V> Shard<K, V> {
    /// A hit raises the slot's heat by one and leaves, with a time to idle, the time; both under a
    /// shared lock. The time is asked for only where a value was found whose life ends.
    #[inline]
    pub(crate) fn get<Q, R>(
        &self,
        hash: Hash,
        key: &Q,
        lives: &Lives,
        time: &impl Time,
        read: impl FnOnce(SlotId, &Entry<K, V>) -> R,
    ) -> Looked<R>
    where
        Q: ?Sized + Equivalent<K>,
    {
        match self.get_elsewhere(hash, key, lives, time) {
            Looked::Value((id, entry)) => Looked::Value(read(id, entry)),
            Looked::Missing => Looked::Missing,
            Looked::Nothing => Looked::Nothing,
        }
    }

    /// The part of [`get`](Self::get) that most look-ups end in, and that has no call in it: a value in
    /// its home group that is fresh by the cheapest reading of the system's clock and has no tags, or
    /// nothing there and nothing elsewhere. Only where no use prolongs a life.
    #[inline]
    pub(crate) fn glance<Q, R>(
        &self,
        hash: Hash,
        key: &Q,
        read: impl FnOnce(&Entry<K, V>) -> R,
    ) -> AtHome<R>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let Some((_, group)) = self.table.home(hash) else { return AtHome::Nothing };
        for lane in group.tagged(hash.tag()) {
            if let Some(entry) = &group.slots[lane] {
                if key.equivalent(&entry.key) {
                    let expiry = entry.stamp.expiry();
                    if !(is_before(expiry) || entry.stamp.is_for_ever()) {
                        return AtHome::Unsure;
                    }
                    // most are as hot as can be, and without tags: one test tells both
                    let mark = group.mark(lane);
                    if mark & (HEAT | TAGGED) != HEAT {
                        if mark & TAGGED != 0 {
                            return AtHome::Unsure;
                        }
                        group.warm_from(lane, mark);
                    }
                    return AtHome::Value(read(entry));
                }
            }
        }
        if group.overflow == 0 && self.aside.missing_len() == 0 {
            return AtHome::Nothing;
        }
        AtHome::Unsure
    }

    fn serves(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, time: &impl Time) -> bool {
        if !self.aside.has_idle() {
            return is_fresh(entry.stamp, time);
        }
        let now = time.now();
        entry.stamp.is_fresh(now) && !self.aside.is_idle(id, lives.idle, now)
    }

    /// [`get`](Self::get) in full, kept out of the way of the look-ups that end at home: the key
    /// may stand in another group, or as a cached "not found", or not at all.
    #[inline(never)]
    pub(crate) fn get_elsewhere<Q>(
        &self,
        hash: Hash,
        key: &Q,
        lives: &Lives,
        time: &impl Time,
    ) -> Looked<(SlotId, &Entry<K, V>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let found = self.table.find(hash, |id, group, lane| {
            let (serves, found) = match &group.slots[lane] {
                Some(entry) if key.equivalent(&entry.key) => {
                    (self.serves(id, entry, lives, time), Looked::Value((id, entry)))
                }
                Some(_) => return None,
                None => {
                    let missing = self.aside.missing(id).filter(|m| key.equivalent(&m.key))?;
                    (missing.stamp.is_fresh(time.now()), Looked::Missing)
                }
            };
            if !serves || group.has_tags(lane) && self.cut(id) < Tick::MAX {
                return Some(Looked::Nothing);
            }
            group.warm(lane);
            Some(found)
        });
        found.unwrap_or(Looked::Nothing)
    }

    /// As [`get`](Self::get), but leaves no mark, and what is past its life is shown for as long
    /// as a window keeps it.
    pub(crate) fn peek<Q>(
        &self,
        hash: Hash,
        key: &Q,
        terms: &Terms<'_>,
    ) -> Option<(SlotId, &Entry<K, V>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let id = self.locate(hash, key).filter(|&id| !self.is_gone(id, terms))?;
        Some((id, self.table.entry(id)?))
    }

    /// Whether anything stands under a key that is not gone: a value, or "there is none".
    pub(crate) fn stands<Q>(&self, hash: Hash, key: &Q, terms: &Terms<'_>) -> bool
    where
        Q: ?Sized + Equivalent<K>,
    {
        self.locate(hash, key).is_some_and(|id| !self.is_gone(id, terms))
    }

    /// What a load is to replace: the value under its key, if it is not gone, and its notes.
    pub(crate) fn old(
        &self,
        flight: &Flight<K, V>,
        terms: &Terms<'_>,
    ) -> Option<(V, Option<Box<Notes>>)>
    where
        K: Eq,
        V: Clone,
    {
        let (id, entry) = self.peek(Hash::new(flight.hash), &flight.key, terms)?;
        Some((entry.value.clone(), self.aside.notes(id).cloned().map(Box::new)))
    }

    /// A fresh entry with what there is to say about it. Clones the value: shared lock only.
    pub(crate) fn got(&self, id: SlotId, entry: &Entry<K, V>, lives: &Lives, now: Tick) -> Got<V>
    where
        V: Clone,
    {
        let mut left = entry.stamp.fresh_for(now);
        if lives.idle < NEVER || self.cut(id) < Tick::MAX {
            left = left.min(self.expiry(id, entry, lives).saturating_sub(now));
        }
        let age = duration(entry.stamp.age(now));
        let validator = self.aside.notes(id).and_then(|notes| notes.validator.clone());
        Got::new(entry.value.clone(), How::Fresh, age, duration(left), validator)
    }

    /// The tags of what stands in a slot.
    #[cfg(feature = "snapshot")]
    pub(crate) fn tags(&self, id: SlotId) -> Option<Tagged> {
        self.aside.notes(id)?.tags.clone()
    }

    /// A value past its life that may be served to whoever asks so, and at this age; also a fresh
    /// one, if there is one by now. For callers whose load came to nothing.
    pub(crate) fn servable<Q>(
        &self,
        hash: u64,
        key: &Q,
        ask: &Ask,
        terms: &Terms<'_>,
    ) -> Option<(SlotId, &Entry<K, V>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let found = self.peek(Hash::new(hash), key, terms);
        found.filter(|(_, entry)| ask.accepts(entry.stamp.age(terms.now)))
    }

    /// A value past its life that may be served at once: somebody is reloading it, or its source is
    /// left alone for a while. Changes nothing but the slot's heat: shared lock.
    pub(crate) fn stale<Q>(
        &self,
        hash: u64,
        key: &Q,
        ask: &Ask,
        terms: &Terms<'_>,
    ) -> Option<(SlotId, &Entry<K, V>, StaleWhy)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let Verdict::Stale(id, why) = self.judge(hash, key, ask, terms) else {
            return None;
        };
        self.table.warm(id);
        Some((id, self.table.entry(id)?, why))
    }

    /// The whole decision about a key that a caller found nothing to serve of.
    #[inline]
    fn judge<Q>(&self, hash: u64, key: &Q, ask: &Ask, terms: &Terms<'_>) -> Verdict<'_, K, V>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let standing = self.locate(Hash::new(hash), key);
        let mut stale = None;
        let reason = match standing.map(|id| (id, self.table.entry(id))) {
            None => LoadReason::Miss,
            Some((id, Some(entry))) => match self.age(id, entry, terms) {
                Age::Gone => LoadReason::Expired,
                age => {
                    if ask.accepts(entry.stamp.age(terms.now)) {
                        if age == Age::Fresh {
                            return Verdict::Look;
                        }
                        stale = Some((id, age));
                    }
                    if ask.is_forced() { LoadReason::Forced } else { LoadReason::Expired }
                }
            },
            Some((id, None)) => match self.aside.missing(id).map(|missing| missing.stamp) {
                Some(stamp) if self.is_missing(id, terms) => {
                    if ask.is_forced() {
                        LoadReason::Forced
                    } else if ask.over_missing {
                        LoadReason::Miss
                    } else if !ask.accepts(stamp.age(terms.now)) {
                        LoadReason::Expired
                    } else {
                        return Verdict::Look;
                    }
                }
                _ => LoadReason::Expired,
            },
        };
        let failure = self.failures.get(hash, key);
        if let Some(flight) = self.board.get(hash, key) {
            if terms.now >= flight.started().saturating_add(terms.load_timeout) {
                return Verdict::Instead(Instead::OfOverdue);
            }
            if flight.is_outdated() {
                return Verdict::Instead(Instead::OfOlder);
            }
            if let Some((id, Age::Revalidate)) = stale {
                return Verdict::Stale(id, StaleWhy::Revalidating);
            }
            let is_for_another = flight.gives_way() || !ask.may_join(flight, terms.now);
            // a loader gets no load of its own in place of the one that it runs for
            if is_for_another && !stack::is_running(flight.id()) {
                return Verdict::Instead(Instead::OfOlder);
            }
            return Verdict::Follow(flight);
        }
        if let Some(failure) = failure.filter(|f| terms.now < f.until && !ask.is_forced()) {
            if let Some((id, _)) = stale {
                return Verdict::Stale(id, StaleWhy::BackOff);
            }
            if let Some(landing) = failure.landing().filter(|landing| ask.can_be_told(landing)) {
                return Verdict::Failed(landing);
            }
        }
        let revalidates = matches!(stale, Some((_, Age::Revalidate)));
        Verdict::Lead { is_absent: standing.is_none(), reason, revalidates }
    }

    /// Puts a new flight on the board.
    #[inline]
    pub(super) fn launch(
        &mut self,
        hash: u64,
        key: K,
        beginning: Beginning,
        terms: &Terms<'_>,
    ) -> Arc<Flight<K, V>>
    where
        K: Eq,
    {
        // what storing touches is asked for now
        self.policy.expect(Hash::new(hash).bits());
        let Beginning { is_absent, reason, in_batch } = beginning;
        let (attempt, after) = match self.failures.get(hash, &key) {
            Some(failure) => (failure.in_a_row, failure.number),
            None => (0, 0),
        };
        self.begun += 1;
        let (number, since) = (self.begun, terms.tags.version());
        let begin =
            Begin { alias: 0, hash, is_absent, number, attempt, after, reason, in_batch, since };
        let flight = Arc::new(Flight::new(begin, key, terms.now));
        self.board.post(Arc::clone(&flight));
        flight
    }

    /// What a caller that found nothing does, decided and done in one critical section: there is no
    /// gap between looking and joining in which a load could land unseen and be done twice.
    pub(crate) fn join<Q>(
        &mut self,
        hash: u64,
        key: &Q,
        owned: &mut Option<K>,
        ask: &Ask,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) -> Joined<K, V>
    where
        Q: ?Sized + Equivalent<K>,
        K: Eq,
    {
        self.board.meet(hash, key);
        let mut overdue = None;
        let role = loop {
            match self.judge(hash, key, ask, terms) {
                // what is stale is served under the shared lock, where values may be cloned
                Verdict::Look | Verdict::Stale(..) => break Role::Look,
                Verdict::Failed(landing) => break Role::Failed(landing.clone()),
                Verdict::Follow(flight) => {
                    flight.follow(terms.tags.version());
                    break Role::Follow(Arc::clone(flight));
                }
                Verdict::Instead(instead) => {
                    let Some(flight) = self.board.take_key(hash, key) else { continue };
                    flight.ground();
                    if instead == Instead::OfOlder {
                        out.flight(flight);
                        continue;
                    }
                    // one failure more: the next load may have to wait
                    self.fail(&flight, Landing::TimedOut, terms, out);
                    overdue = Some(flight);
                }
                Verdict::Lead { is_absent, reason, revalidates } => {
                    let Some(key) = owned.take() else { break Role::Look };
                    let beginning = Beginning { is_absent, reason, in_batch: ask.in_batch };
                    let flight = self.launch(hash, key, beginning, terms);
                    break Role::Lead { flight, revalidates };
                }
            }
        };
        Joined { role, overdue }
    }

    /// A flight that had its key until now came to nothing.
    pub(crate) fn fail(
        &mut self,
        flight: &Arc<Flight<K, V>>,
        landing: Landing<V>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) {
        let timed_out = matches!(landing, Landing::TimedOut);
        let hold = terms.lives.back_off.hold(flight.attempt + 1, timed_out);
        let answers = terms.lives.back_off.answers() && hold > 0;
        self.failures.record(flight, landing, (terms.now, terms.now + hold), answers, out);
    }
}
