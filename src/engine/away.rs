//! A load without a caller: a lead in the hands of a background job, which asks it what to do next:
//!
//! ```text
//! first ──► Ask, answered ──► Queue, turned ──► Load, land
//! ```
//!
//! Each of them may be left out, and each answer may be [`End`](AwayStep::End).

use super::guard::Carried;
use super::guard::line::Line;
use super::lead::{DetachedLead, Lead, Progress};
use super::store::Store;
use super::tier::Question;
use crate::parts::flight::{Flight, WaiterTicket};
use crate::parts::stack;
use crate::rules::expiry::NEVER;
use crate::rules::loaded::{LoadCx, Loaded};
use crate::rules::tier::{TierError, TierFound};
use crate::shard::ask::Ask;
use crate::words::clock::Clock;
use crate::words::tick::Tick;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

/// A [`Lead`] that does not keep the cache alive: the right to load a key, in the hands of a background job.
/// If the last handle to the cache is dropped meanwhile, the cache goes at once, and the job's result is
/// dropped.
///
/// Dropped before it has landed, by a runtime that is shut down or by a panic, it hands the key on as a lead
/// does.
pub(crate) struct Away<K, V, S> {
    store: Weak<Store<K, V, S>>,
    clock: Clock,
    /// Ticks.
    load_timeout: u64,
    /// How old a value of the second tier may be to do instead of a load, in ticks: what its caller, if it has
    /// one, accepts.
    max_age: u64,
    ticket: WaiterTicket,
    flight: Arc<Flight<K, V>>,
    /// `None` when it is done.
    detached: Option<DetachedLead<K, V>>,
}

/// What a background job does next.
pub(crate) enum AwayStep<K, V, S> {
    /// Ask the second tier, until the [`deadline`](Away::deadline) at most, and report what it says:
    /// [`Away::answered`].
    Ask(Away<K, V, S>, Question<K, V>),
    /// No slot is free. Wait for one, and report that: [`Away::turned`]. Or drop the load.
    Queue(Away<K, V, S>, Line<K, V>),
    /// Run the loader, and [`land`](Away::land) its result.
    Load(Away<K, V, S>, LoadCx<V>),
    /// Nothing: there is no load any more, and everybody concerned has been told.
    End,
}

impl<K, V, S> Away<K, V, S> {
    pub(super) fn new(store: &Arc<Store<K, V, S>>, detached: DetachedLead<K, V>) -> Self {
        Self {
            clock: store.clock.clone(),
            load_timeout: store.timeouts.load,
            max_age: NEVER,
            store: Arc::downgrade(store),
            ticket: WaiterTicket::of_the_load(),
            flight: Arc::clone(&detached.flight),
            detached: Some(detached),
        }
    }

    /// The same for a caller that accepts nothing older than so many ticks.
    fn up_to(mut self, max_age: u64) -> Self {
        self.max_age = max_age;
        self
    }

    pub(super) fn flight(&self) -> &Arc<Flight<K, V>> {
        &self.flight
    }

    pub(crate) fn key(&self) -> &K {
        &self.flight.key
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The tick at which the load is given up.
    pub(crate) fn deadline(&self) -> Tick {
        self.flight.started().saturating_add(self.load_timeout)
    }

    /// Whether nobody could use its result: the key was written while this was in a queue and nobody waits for
    /// it, or the cache is gone.
    fn is_moot(&self) -> bool {
        let is_fenced = self.flight.is_grounded() && self.flight.waiters() == 0;
        is_fenced || self.store.strong_count() == 0
    }

    /// Runs a part of the user's code, the loader's or the second tier's: all of it, or one poll.
    pub(crate) fn run<R>(&mut self, part: impl FnOnce() -> R) -> R {
        let _running = stack::enter(self.flight.id());
        let Some(detached) = &mut self.detached else { return part() };
        let _inside = detached.permit.enter();
        detached.progress = Progress::Running;
        let result = part();
        detached.progress = Progress::Begun;
        result
    }

    /// Ready when the load need not go on: it timed out, or the cache was dropped. Else `waker` is woken when
    /// that happens.
    pub(crate) fn poll_over(&mut self, waker: &Waker) -> Poll<()> {
        match self.flight.poll(&mut self.ticket, waker) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }

    /// Whether there is a second tier.
    fn has_tier(&self) -> bool {
        self.store.upgrade().is_some_and(|store| store.tier.is_some())
    }

    /// A future that asks the second tier for the key, if it is to be asked.
    fn question(&self) -> Option<Question<K, V>> {
        self.store.upgrade()?.question_of(&self.flight)
    }

    /// Counts and reports that the runtime refused it.
    pub(crate) fn note_refused(&self) {
        if let Some(store) = self.store.upgrade() {
            store.note_refused();
        }
    }

    /// The load took too long: frees the key, and tells all waiters.
    pub(crate) fn time_out(self) {
        if let Some(lead) = self.back() {
            lead.time_out();
        }
    }

    /// The lead again, if the cache is still there.
    pub(crate) fn back(mut self) -> Option<Lead<K, V, S>> {
        self.lead()
    }

    fn lead(&mut self) -> Option<Lead<K, V, S>> {
        let detached = self.detached.take()?;
        self.flight.leave(&self.ticket);
        Some(Lead::again(self.store.upgrade()?, detached))
    }
}

impl<K, V, S> Away<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// The runtime has got to it.
    pub(crate) fn first(self) -> AwayStep<K, V, S> {
        if self.is_moot() {
            return AwayStep::End;
        }
        if !self.has_tier() {
            return self.begin();
        }
        let Some(away) = self.hold() else { return AwayStep::End };
        match away.question() {
            Some(question) => AwayStep::Ask(away, question),
            None => away.begin(),
        }
    }

    /// Takes the key back before the second tier is asked. `None` if somebody has taken it meanwhile.
    fn hold(self) -> Option<Self> {
        let max_age = self.max_age;
        let lead = self.back()?;
        lead.resume().then(|| lead.away().up_to(max_age))
    }

    /// The second tier has answered; `None` if the load's time was over first.
    pub(crate) fn answered(
        self,
        found: Option<Result<TierFound<K, V>, TierError>>,
    ) -> AwayStep<K, V, S> {
        let max_age = self.max_age;
        let Some(mut lead) = self.back() else { return AwayStep::End };
        let found = found.unwrap_or(Err(TierError::TimedOut));
        match lead.answer(found, |age| age <= max_age, false) {
            Some(entry) => {
                // the waiters have been told; there is no caller to tell
                drop(lead.land_kept::<Infallible>(entry, None));
                AwayStep::End
            }
            None => lead.away().begin(),
        }
    }

    /// The loader is done.
    pub(crate) fn land<E: Send + Sync + 'static>(self, result: Result<Loaded<V>, E>) {
        if let Some(lead) = self.back() {
            // the waiters have been told; there is no caller to tell
            drop(lead.land(result, None));
        }
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Sends a load that should not depend on its caller to the background, where the cache's own loader runs
    /// it, and returns the flight, for which the caller waits like everybody: with `soft_timeout` for callers
    /// that can be served stale, with `detached_loads` for all. Otherwise returns the lead.
    #[cold]
    pub(crate) fn send_out(
        self: &Arc<Self>,
        lead: Lead<K, V, S>,
        ask: &Ask,
        carried: &Carried,
    ) -> Result<Arc<Flight<K, V>>, Lead<K, V, S>> {
        let Some(background) = &self.refresher else { return Err(lead) };
        if !background.detaches && self.timeouts.soft().is_none() {
            return Err(lead);
        }
        // Inside a load, a caller that leads itself uses that load's slot and is told if it would wait for
        // itself. A thread that brings news must not wait for others.
        if stack::is_any_running() || self.must_not_wait() {
            return Err(lead);
        }
        // If there is no slot and the caller can be served stale, it is served now, and nothing gets in line.
        let is_servable = || self.is_servable(lead.hash(), lead.key(), ask);
        let stays = if background.detaches {
            // the caller hears at once that the breaker is open, however busy the runtime is
            self.is_stopped() || self.is_crowded() && is_servable()
        } else {
            self.is_crowded() || !is_servable()
        };
        if stays {
            return Err(lead);
        }
        // the caller follows before the load can land, and so that the load does not give way
        let flight = lead.follow();
        carried.lend(&flight);
        match background.start(lead.send_away().up_to(ask.max_age)) {
            Ok(()) => Ok(flight),
            Err(away) => match away.back() {
                Some(lead) => {
                    lead.resume();
                    Err(lead)
                }
                None => Ok(flight),
            },
        }
    }
}

impl<K, V, S> Drop for Away<K, V, S> {
    fn drop(&mut self) {
        drop(self.lead());
    }
}
