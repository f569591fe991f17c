//! The end of a load: its result is stored, all waiters are told, and what left to make room is reported.

use super::{Lead, Progress};
use crate::engine::put::{By, Stored};
use crate::engine::unreported::Unreported;
use crate::parts::breaker::TrialVerdict;
use crate::parts::flight::{Brought, Landing};
use crate::parts::group::Hash;
use crate::parts::stack;
use crate::parts::tags::Tagged;
use crate::rules::ahead::draw;
use crate::rules::expiry::{duration, ticks};
use crate::rules::got::{Got, How};
use crate::rules::loaded::{Answer, Loaded};
use crate::rules::tier::TierEntry;
use crate::shard::entry::{LifeBegan, Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::error::LoadError;
use std::sync::Arc;
use std::time::Duration;

/// The metadata of a value that has landed.
struct LandedNotes {
    how: How,
    /// In ticks, if it was not loaded now.
    age: Option<u64>,
    validator: Option<Arc<str>>,
    tagged: Option<Tagged>,
}

impl<K, V, S> Lead<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// The loader is done. Stores its result, if the key is still this flight's, tells all waiters, and then
    /// reports what had to leave. `ttl` is the caller's.
    pub(crate) fn land<E: Send + Sync + 'static>(
        mut self,
        result: Result<Loaded<V>, E>,
        ttl: Option<Duration>,
    ) -> Result<Got<V>, LoadError<E>> {
        let mut out = Outbox::new();
        let landed = self.land_quietly(result, ttl, &mut out);
        self.store.deliver(out);
        self.emit(&landed);
        landed
    }

    /// The same without the reports: what had to leave is in `out`, for a caller that has something else to
    /// do before user code may run.
    pub(in crate::engine) fn land_quietly<E: Send + Sync + 'static>(
        &mut self,
        result: Result<Loaded<V>, E>,
        ttl: Option<Duration>,
        out: &mut Outbox<K, V>,
    ) -> Result<Got<V>, LoadError<E>> {
        let now = self.count_time();
        let verdict = match &result {
            // "unchanged" is no answer if the loader was shown no old value
            Ok(loaded) if matches!(loaded.answer, Answer::Unchanged) && self.old().is_none() => {
                TrialVerdict::Failure
            }
            Ok(_) => TrialVerdict::Success,
            Err(error) => self.permit.verdict_of(error),
        };
        self.permit.hand_back(verdict);
        self.time_out_if_late(now);
        let took = now.saturating_sub(self.flight.started());
        self.store.extend_horizon(took);
        let Loaded { answer, ttl: own_ttl, validator, tags: said, store } = match result {
            Ok(loaded) => loaded,
            Err(error) => {
                return Err(self.fail(Arc::new(error)));
            }
        };
        let (value, notes, renews) = match answer {
            Answer::Value(value) => {
                if self.old().is_some_and(|old| old.validator().is_some()) {
                    self.store.counts.changed.add(1);
                }
                let tags = self.tagged(&said, None);
                (Some(value), Notes::of(validator, tags), false)
            }
            Answer::Missing => (None, Notes::of(None, self.tagged(&said, None)), false),
            Answer::Unchanged => {
                let Some(old) = self.extras.as_mut().and_then(|extras| extras.old.take()) else {
                    self.land_failed(Landing::NothingToRenew);
                    return Err(LoadError::NothingToRenew);
                };
                let Notes { validator: old_validator, tags, .. } = *old.notes.unwrap_or_default();
                let notes = Notes::of(validator.or(old_validator), self.tagged(&said, tags));
                // the loader may have kept the old value
                self.progress = Progress::Landing;
                let value = Arc::try_unwrap(old.value).unwrap_or_else(|shared| V::clone(&shared));
                self.progress = Progress::Waiting;
                (Some(value), notes, true)
            }
        };
        let (validator, tagged) = match &notes {
            Some(notes) => (notes.validator.clone(), notes.tags.clone()),
            None => (None, None),
        };
        let change = if store {
            self.progress = Progress::Landing;
            let said = own_ttl.or(ttl.filter(|_| value.is_some())).map(ticks);
            let change = self.brought(value.as_ref(), said, took, notes.as_deref());
            self.progress = Progress::Waiting;
            change
        } else {
            None
        };
        let ttl = match value {
            Some(_) => own_ttl.or(ttl).map_or(self.store.lives.ttl, ticks),
            None => own_ttl.map_or(self.store.lives.negative, ticks),
        };
        let renewed = if renews && store && ttl > 0 {
            self.store.renew(&self.flight, ttl, notes.as_deref(), out)
        } else {
            None
        };
        let stored = match renewed {
            Some(stored) => stored,
            None if store => self.put(value.as_ref(), ttl, took.max(1), notes, out),
            None => self.store.leave_alone(&self.flight, out),
        };
        self.tell(change, stored, out);
        self.end(value, stored, LandedNotes { how: How::Loaded, age: None, validator, tagged }, out)
    }

    /// The result is `stored` or not: lands the flight, and tells all waiters.
    fn end<E: Send + Sync + 'static>(
        &mut self,
        value: Option<V>,
        stored: Stored,
        landed: LandedNotes,
        out: &mut Outbox<K, V>,
    ) -> Result<Got<V>, LoadError<E>> {
        let LandedNotes { how, age, validator, tagged } = landed;
        let fresh_for = match stored {
            Stored::Yes(life) => duration(life.min(self.store.lives.idle)),
            Stored::No => Duration::ZERO,
            Stored::Fenced => {
                self.count_fenced();
                Duration::ZERO
            }
        };
        // tags that only the loader knew: if one was removed or expired before the last follower joined, look
        // again
        let is_late = |tagged: &Tagged| {
            tagged.first_change().is_some_and(|at| at <= self.flight.last_joined())
        };
        let is_late = tagged.as_ref().is_some_and(is_late);
        self.progress = Progress::Landing;
        let landing = match &value {
            _ if is_late => Some(Landing::Abandoned),
            // off the board: nobody joins any more, and usually nobody has
            _ if !self.flight.has_followers() => None,
            Some(value) => {
                // what had to leave is reported even if this `Clone` panics
                let unreported = Unreported { store: &self.store, out };
                let (value, validator) = (value.clone(), validator.clone());
                drop(unreported);
                Some(Landing::Value(Arc::new(Brought { value, age, fresh_for, validator })))
            }
            None => Some(Landing::Missing),
        };
        self.progress = Progress::Done;
        if let Some(landing) = landing {
            self.flight.land(landing);
        }
        match value {
            Some(value) => {
                let age = duration(age.unwrap_or(0));
                Ok(Got::new(value, how, age, fresh_for, validator))
            }
            None => Err(LoadError::NotFound),
        }
    }

    /// The second tier has the value: stores it, with what is left of its life, and tells all waiters. `ttl`
    /// is the caller's.
    pub(crate) fn land_kept<E: Send + Sync + 'static>(
        mut self,
        entry: TierEntry<K, V>,
        ttl: Option<Duration>,
    ) -> Result<Got<V>, LoadError<E>> {
        let mut out = Outbox::new();
        let landed = self.land_kept_quietly(entry, ttl, &mut out);
        self.store.deliver(out);
        landed
    }

    /// The same without the reports.
    pub(in crate::engine) fn land_kept_quietly<E: Send + Sync + 'static>(
        &mut self,
        entry: TierEntry<K, V>,
        ttl: Option<Duration>,
        out: &mut Outbox<K, V>,
    ) -> Result<Got<V>, LoadError<E>> {
        let TierEntry { value, age, fresh_for, validator, tags, .. } = entry;
        let tagged = self.tagged(&tags, None);
        let (store, age) = (Arc::clone(&self.store), ticks(age));
        let own = match value {
            Some(_) => {
                let (now, ttl) = (store.clock.now(), ttl.map_or(store.lives.ttl, ticks));
                // the copies in many processes should not expire at once either
                let random = draw(store.seed ^ self.flight.hash, 0, now);
                if ttl == 0 { 0 } else { store.lives.stamp(now, ttl, random).life() }
            }
            None => store.lives.negative,
        };
        let left = own.min(ticks(fresh_for));
        let begun = value.as_ref().map(|_| LifeBegan::Elsewhere { age, unused: 0 });
        let notes = Notes { validator: validator.clone(), tags: tagged.clone(), begun };
        let stored = self.put(value.as_ref(), left, 0, Some(Box::new(notes)), out);
        self.end(
            value,
            stored,
            LandedNotes { how: How::Tier, age: Some(age), validator, tagged },
            out,
        )
    }

    /// Stores the result, if the key is still this flight's.
    fn put(
        &mut self,
        value: Option<&V>,
        ttl: u64,
        took: u64,
        notes: Option<Box<Notes>>,
        out: &mut Outbox<K, V>,
    ) -> Stored {
        // the `Clone` of key and value and the weigher are user code as well, and asking for the key in there
        // is recursion
        let running = stack::enter(self.flight.id());
        self.progress = Progress::Landing;
        let key = self.flight.key.clone();
        let units = self.store.units(&key, value);
        let put = Put {
            hash: Hash::new(self.flight.hash),
            key,
            // without a life there is nothing to store; the old entry is taken out
            value: if ttl > 0 { value.cloned() } else { None },
            units,
            ttl,
            took,
            notes,
            admission: None,
        };
        self.progress = Progress::Waiting;
        drop(running);
        self.store.put(self.flight.hash, put, By::Flight(&self.flight), out)
    }
}
