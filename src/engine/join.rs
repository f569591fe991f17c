//! Decides what a caller that found nothing does next, and ends the loads that callers wait for.

use super::behind::unwritten as unwritten_value;
use super::lead::Lead;
use super::look::Looked;
use super::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::stack;
use crate::rules::got::{Got, How, StaleWhy};
use crate::shard::ask::Ask;
use crate::shard::join::{Joined, Role};
use crate::shard::outbox::Outbox;
use crate::words::to_key::ToKey;
use equivalent::Equivalent;
use std::sync::Arc;

/// What a caller that found nothing does next.
pub(crate) enum Next<K, V, S> {
    /// Look again: there is an answer now.
    Look,
    /// Serve this value at once: it is past its life, or on its way to the source.
    Serve(Got<V>),
    /// The last load failed with this outcome, and the next one is held back; or the value is about to be
    /// deleted at the source.
    Failed(Landing<V>),
    /// Wait for somebody else's load.
    Follow(Arc<Flight<K, V>>),
    /// This very thread or task is loading the key.
    Recursive,
    /// Load.
    Lead(Lead<K, V, S>),
    /// Load, while everybody else is served the stale value. A cache that owns its loader may do so in the
    /// background, and serve the stale value to this caller too; a closure can only be run by its caller.
    Revalidate(Lead<K, V, S>),
}

impl<K, V, S> Store<K, V, S> {
    /// The number of the load that began last in the key's shard.
    pub(crate) fn begun(&self, hash: u64) -> u64 {
        self.cell(hash).shard.read().begun()
    }

    /// Decides who loads.
    pub(crate) fn join<Q>(self: &Arc<Self>, hash: u64, key: &Q, ask: &Ask) -> Next<K, V, S>
    where
        Q: ?Sized + Equivalent<K> + ToKey<K>,
        K: Clone + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
        S: Send + Sync + 'static,
    {
        if let Some(got) = self.stale(hash, key, ask) {
            return Next::Serve(got);
        }
        if self.is_in_handler() {
            return self.join_nobody(hash, key, ask);
        }
        // the user's `Clone` runs before the lock is taken, and its `Drop` after
        let mut owned = Some(key.to_key());
        let mut out = Outbox::new();
        // outlives the lock: it may be the last handle to a value that was written just now
        let unwritten;
        let Joined { role, overdue } = {
            let mut shard = self.cell(hash).shard.write();
            unwritten = owned.as_ref().and_then(|key| self.queues.latest(hash, key));
            match unwritten.as_ref().map(|item| &item.value) {
                Some(Some(value)) => {
                    drop(shard);
                    return Next::Serve(unwritten_value(value.clone()));
                }
                // a value about to be deleted may be made anew by a caller that does not ask the source
                Some(None) if !ask.over_missing => return Next::Failed(Landing::Missing),
                _ => {}
            }
            shard.join(hash, key, &mut owned, ask, &self.terms(), &mut out)
        };
        // before any user code runs: if that panics, a load that has begun does not stay on the board
        let next = match role {
            Role::Look => Next::Look,
            Role::Failed(landing) => Next::Failed(landing),
            Role::Follow(flight) => Next::Follow(flight),
            Role::Lead { flight, revalidates } => {
                let lead = Lead::new(Arc::clone(self), flight);
                if revalidates { Next::Revalidate(lead) } else { Next::Lead(lead) }
            }
        };
        if let Some(flight) = overdue {
            self.land_overdue(&flight);
        }
        drop((out, unwritten));
        match next {
            Next::Follow(flight) if stack::is_running(flight.id()) => Next::Recursive,
            Next::Follow(_) if self.must_not_wait() => {
                // the leader may be waiting for the tier, and the tier for this thread
                self.take_over(hash, key);
                self.join(hash, key, ask)
            }
            Next::Follow(flight) => {
                self.hurry(&flight);
                Next::Follow(flight)
            }
            Next::Revalidate(lead) => {
                // take the stale value before anybody can replace it
                let Some(mut got) = self.stale(hash, key, ask) else { return Next::Lead(lead) };
                match self.revalidate(lead) {
                    Ok(why) => {
                        got.how = How::Stale(why);
                        Next::Serve(got)
                    }
                    Err(lead) => Next::Revalidate(lead),
                }
            }
            next => next,
        }
    }

    /// [`join`](Self::join) in a handler of events: serves what there is, as if a load had failed, and waits for
    /// nobody. For `get_or_insert_with`, "not found" is no answer.
    #[cold]
    fn join_nobody<Q>(&self, hash: u64, key: &Q, ask: &Ask) -> Next<K, V, S>
    where
        Q: ?Sized + Equivalent<K>,
        K: Eq,
        V: Clone,
    {
        match self.got(hash, key, ask) {
            Looked::Value(got) => Next::Serve(got),
            Looked::Missing if !ask.over_missing => Next::Failed(Landing::Missing),
            Looked::Missing | Looked::Nothing => {
                let stale = self.servable(hash, key, ask, StaleWhy::LoadFailed);
                stale.map_or(Next::Recursive, Next::Serve)
            }
        }
    }

    /// Takes the key from the load in flight, whose result still goes to its own caller and followers.
    #[cold]
    fn take_over<Q>(&self, hash: u64, key: &Q)
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut out = Outbox::new();
        self.cell(hash).shard.write().ground(hash, key, &mut out);
        drop(out);
    }

    /// A load failed: lands its flight with this outcome. Remembers the failure, if the flight had its key until
    /// now. Returns whether this is the flight's outcome: `false` if it had landed before.
    pub(super) fn fail(&self, flight: &Arc<Flight<K, V>>, landing: Landing<V>) -> bool {
        let mut out = Outbox::new();
        {
            let mut shard = self.cell(flight.hash).shard.write();
            if shard.take_off(flight) {
                shard.fail(flight, landing.clone(), &self.terms(), &mut out);
            }
        }
        flight.land(landing)
    }

    /// The tick at which the waiters of this flight give it up.
    pub(crate) fn deadline(&self, flight: &Flight<K, V>) -> u64 {
        self.timeouts.deadline(flight.started())
    }

    /// The flight's time is over: it loses its key, and all waiters are told.
    pub(crate) fn time_out(&self, flight: &Arc<Flight<K, V>>) {
        if self.time_out_quietly(flight) {
            self.emit_timed_out(flight);
        }
    }

    /// A flight that has just lost its key to its timeout: tells all waiters. Its own load may have been
    /// quicker to notice.
    pub(super) fn land_overdue(&self, flight: &Arc<Flight<K, V>>) {
        if flight.land(Landing::TimedOut) {
            self.counts.load_timeouts.add(1);
            self.emit_timed_out(flight);
        }
    }

    /// The same as [`time_out`](Self::time_out), without telling the handler of events. Returns whether there
    /// is an event to tell later. A flight that had lost its key before, to a write say, times out as well:
    /// its caller is told so, and nothing else counts it.
    pub(super) fn time_out_quietly(&self, flight: &Arc<Flight<K, V>>) -> bool {
        let is_first = self.fail(flight, Landing::TimedOut);
        if is_first {
            flight.ground();
            self.counts.load_timeouts.add(1);
        }
        is_first
    }

    /// Counts a background load that the runtime was too busy for.
    pub(crate) fn count_busy(&self) {
        self.counts.refused.add(1);
    }

    /// Counts a miss that waits for another caller's load.
    pub(crate) fn count_joined(&self) {
        self.counts.joined.add(1);
    }
}
