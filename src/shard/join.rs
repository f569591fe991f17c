//! What a caller that found nothing does, decided in one critical section.

use super::Shard;
use super::ask::Ask;
use super::entry::{Entry, Terms};
use super::outbox::Outbox;
use crate::parts::eviction::{Policy, SlotId};
use crate::parts::flight::{Begin, Flight, Landing};
use crate::parts::group::Hash;
use crate::parts::stack;
use crate::rules::expiry::Age;
use crate::rules::got::StaleWhy;
use crate::rules::loaded::LoadReason;
use equivalent::Equivalent;
use std::sync::Arc;

/// What a caller that found nothing is to do, decided in one critical section.
pub(crate) enum Role<K, V> {
    /// There is an answer now, fresh or stale: look again.
    Look,
    /// The last load of the key failed with this outcome, and the next one is held back.
    Failed(Landing<V>),
    /// Somebody is loading the key: wait for it.
    Follow(Arc<Flight<K, V>>),
    /// Load it. If it `revalidates`, everybody else is served the stale value meanwhile.
    Lead { flight: Arc<Flight<K, V>>, revalidates: bool },
}

/// A role, and a flight that has just lost the key to its timeout, and is yet to be landed.
pub(crate) struct Joined<K, V> {
    pub(crate) role: Role<K, V>,
    pub(crate) overdue: Option<Arc<Flight<K, V>>>,
}

/// What is to be done about a key: the decision alone, which changes nothing.
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
        /// The slot that everybody else is served from meanwhile.
        revalidates: Option<SlotId>,
    },
}

/// What is known of a load before it is numbered and on the board.
#[derive(Clone, Copy)]
pub(super) struct Beginning {
    pub(super) is_absent: bool,
    pub(super) reason: LoadReason,
    pub(super) in_batch: bool,
}

/// Why a flight has to make way for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// It began too early for this caller, or before something happened to its tags; or it has not begun, and
    /// waits behind all misses.
    OfOlder,
    /// Its time is over.
    OfOverdue,
}

impl<K, V> Shard<K, V> {
    /// A value past its life that may be served at once, with the reason: somebody is reloading it, or its
    /// source is left alone for a while. Without a reason, it may be served as soon as somebody reloads it.
    /// Changes nothing but the slot's heat: shared lock.
    pub(crate) fn stale<Q>(
        &self,
        hash: u64,
        key: &Q,
        ask: &Ask,
        terms: &Terms<'_>,
    ) -> Option<(SlotId, &Entry<K, V>, Option<StaleWhy>)>
    where
        Q: ?Sized + Equivalent<K>,
    {
        let (id, why) = match self.judge(hash, key, ask, terms) {
            Verdict::Stale(id, why) => (id, Some(why)),
            Verdict::Lead { revalidates: Some(id), .. } => (id, None),
            _ => return None,
        };
        self.table.warm(id);
        Some((id, self.table.entry(id)?, why))
    }

    /// The whole decision about a key for which a caller found nothing to serve.
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
            // a loader that asks for its own key does not get a second load in place of its own
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
        let revalidates = stale.filter(|(_, age)| *age == Age::Revalidate).map(|(id, _)| id);
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
        // prefetch what storing will touch
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

    /// Decides what a caller that found nothing does, and does it, in one critical section: there is no gap
    /// between looking and joining in which a load could land unseen and be done twice.
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
                // a stale value is served under the shared lock, where values may be cloned
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
                    // it counts as a failure: the next load may have to wait
                    self.fail(&flight, Landing::TimedOut, terms, out);
                    overdue = Some(flight);
                }
                Verdict::Lead { is_absent, reason, revalidates } => {
                    let Some(key) = owned.take() else { break Role::Look };
                    let beginning = Beginning { is_absent, reason, in_batch: ask.in_batch };
                    let flight = self.launch(hash, key, beginning, terms);
                    break Role::Lead { flight, revalidates: revalidates.is_some() };
                }
            }
        };
        Joined { role, overdue }
    }

    /// Records the failure of a flight that had its key until now.
    pub(crate) fn fail(
        &mut self,
        flight: &Arc<Flight<K, V>>,
        landing: Landing<V>,
        terms: &Terms<'_>,
        out: &mut Outbox<K, V>,
    ) {
        let hold = terms.lives.back_off.hold(flight.attempt + 1);
        let answers = terms.lives.back_off.answers() && hold > 0;
        self.failures.record(flight, landing, (terms.now, terms.now + hold), answers, out);
    }
}
