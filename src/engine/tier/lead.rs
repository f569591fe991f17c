//! The part of a load that deals with the second tier: asking it, using the answer, sending it the result.

use super::{Question, give_back};
use crate::engine::lead::Lead;
use crate::engine::put::{By, Stored};
use crate::engine::unreported::Unreported;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::parts::slots::Queued;
use crate::parts::stack;
use crate::rules::ahead::draw;
use crate::rules::event::Event;
use crate::rules::expiry::{duration, ticks};
use crate::rules::loaded::LoadReason;
use crate::rules::tag::Tag;
use crate::rules::tier::{TierChange, TierEntry, TierError, TierFound, TierTicket};
use crate::shard::entry::{LifeBegan, Notes, Put};
use crate::shard::outbox::Outbox;
use crate::words::sync::atomic::Ordering;
use crate::words::tick::Tick;
use crate::words::tier_key::TierKey;
use std::sync::Arc;

/// Whether a load must go to the source, whatever the tier has: then it asks the tier only for a ticket.
pub(super) fn goes_to_the_source<K, V>(flight: &Flight<K, V>) -> bool {
    matches!(flight.reason, LoadReason::Forced | LoadReason::Refresh)
}

/// The ticket that a lead got from the tier, kept until the lead is done.
pub(in crate::engine) struct TicketHeld {
    name: TierKey,
    ticket: TierTicket,
    /// When the load began, or earlier.
    began: Tick,
    /// The tier had an entry, perhaps an expired one.
    is_there: bool,
}

impl<K, V, S> Lead<K, V, S> {
    /// Gives back the ticket of a load that brought nothing to store.
    pub(in crate::engine) fn release(&mut self) {
        if let (Some(held), Some(tier)) = (self.take_ticket(), &self.store.tier) {
            give_back(&*tier.tier, &held.name, &held.ticket);
        }
    }

    /// A future that asks the tier, if it is to be asked: to be polled as a part of the load.
    pub(crate) fn question(&self) -> Option<Question<K, V>> {
        self.store.question_of(&self.flight)
    }
}

impl<K, V, S> Lead<K, V, S>
where
    K: Clone + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    /// Handles the tier's answer. Returns the entry if it makes a load unnecessary: `accepts` must allow its age
    /// in ticks, and with `needs_value` a "not found" does not count.
    pub(crate) fn answer(
        &mut self,
        found: Result<TierFound<K, V>, TierError>,
        accepts: impl Fn(u64) -> bool,
        needs_value: bool,
    ) -> Option<TierEntry<K, V>> {
        if let Err(error) = &found {
            self.store.emit(Event::TierFailed { error });
        }
        let mut out = Outbox::new();
        let entry = self.answer_quietly(found, accepts, needs_value, &mut out);
        // the load is not over: a listener that asks for its key gets `Recursive` instead of waiting for it
        let _running = stack::enter(self.id());
        self.store.deliver(out);
        entry
    }

    /// The same without the reports.
    pub(super) fn answer_quietly(
        &mut self,
        found: Result<TierFound<K, V>, TierError>,
        accepts: impl Fn(u64) -> bool,
        needs_value: bool,
        out: &mut Outbox<K, V>,
    ) -> Option<TierEntry<K, V>> {
        let store = Arc::clone(&self.store);
        let tier = store.tier.as_ref()?;
        // the load, if there is one, begins now; its ticket may be older, but the time that a tier takes to
        // answer is short beside the time that it allows for loads
        let now = store.clock.now();
        self.flight.begin(now);
        let Ok(TierFound { entry, ticket }) = found else {
            tier.counts.errors.add(1);
            return None;
        };
        let name = (tier.name)(self.key());
        let entry = entry.filter(|entry| entry.key == *self.key());
        self.keep_ticket(TicketHeld { name, ticket, began: now, is_there: entry.is_some() });
        if entry.is_none() {
            self.disown(out);
        }
        let is_new = |entry: &TierEntry<K, V>| entry.fresh_for >= duration(store.lives.ttl);
        let will_do = |entry: &TierEntry<K, V>| {
            !goes_to_the_source(&self.flight) || self.flight.is_ahead() && is_new(entry)
        };
        let Some(entry) = entry.filter(will_do) else {
            tier.counts.misses.add(1);
            return None;
        };
        let may_be = match entry.value {
            Some(_) => true,
            None => !needs_value && store.lives.negative > 0,
        };
        if may_be && !entry.fresh_for.is_zero() && accepts(ticks(entry.age)) {
            tier.counts.hits.add(1);
            return Some(entry);
        }
        tier.counts.misses.add(1);
        if entry.fresh_for.is_zero() {
            self.show(entry, out);
        }
        None
    }

    /// The tier has nothing under this key. If news may have been lost, others may have removed an entry that
    /// was cached here before that: it is not served any more, whatever becomes of the load.
    fn disown(&self, out: &mut Outbox<K, V>) {
        let (store, hash) = (&self.store, self.flight.hash);
        let doubted = store.tier.as_ref().map_or(0, |tier| tier.doubted.load(Ordering::Relaxed));
        if doubted > 0 {
            let mut shard = store.cell(hash).shard.write();
            shard.disown(Hash::new(hash), self.key(), doubted, &store.terms(), out);
        }
    }

    /// Caches an expired value as expired: the loader is shown it, and it is served if the load fails, for as
    /// long as this cache's windows allow.
    fn show(&mut self, entry: TierEntry<K, V>, out: &mut Outbox<K, V>) {
        let store = Arc::clone(&self.store);
        let over_for = ticks(entry.over_for).max(1);
        if over_for >= store.lives.windows.longest() || store.budget.max() == 0 {
            return;
        }
        let TierEntry { key, value: Some(value), age, validator, tags, .. } = entry else { return };
        let tags = self.tagged(&tags, None);
        let begun = Some(LifeBegan::Over { age: ticks(age).max(over_for), over_for });
        let notes = Some(Box::new(Notes { validator, tags, begun }));
        let hash = self.flight.hash;
        let units = store.units(&key, Some(&value));
        let put = Put { notes, ..Put::of(hash, key, value, units, 1) };
        store.put(hash, put, By::Shown(&self.flight), out);
    }

    /// What the tier is to be told of this load's result, if it was asked before the load. Made before
    /// anything is stored, because making it clones key and value.
    pub(in crate::engine) fn brought(
        &mut self,
        value: Option<&V>,
        ttl: Option<u64>,
        took: u64,
        notes: Option<&Notes>,
    ) -> Option<TierChange<K, V>> {
        let tier = self.store.tier.as_ref()?;
        let longest = ticks(tier.tier.longest_load());
        let now = self.store.clock.now();
        let validator = notes.and_then(|notes| notes.validator.clone());
        let tags = notes.and_then(|notes| notes.tags.as_ref());
        let tags = tags.map_or_else(Vec::new, |tags| tags.iter().map(Tag::from).collect());
        let said = if value.is_some() { ttl } else { ttl.or(Some(self.store.lives.negative)) };
        if said == Some(0) {
            // Nothing is to be stored, and what the tier had goes; if it had nothing, it is not told. The
            // ticket is kept, to be given back, so that others need not wait for this load to store
            // something.
            let held = self.ticket().filter(|held| held.is_there)?;
            return Some(TierChange::Remove(held.name.clone()));
        }
        let Some(held) = self.take_ticket() else {
            // what the tier has is older than this forced result
            let is_newer = goes_to_the_source(&self.flight);
            let name = self.store.name_of(self.key());
            return name.filter(|_| is_newer).map(TierChange::Remove);
        };
        if now.saturating_sub(held.began) >= longest {
            // what the tier had is older, and was not good enough for somebody
            let older = held.is_there.then(|| TierChange::Remove(held.name.clone()));
            self.keep_ticket(held);
            return older;
        }
        let stale_for = value.map_or(0, |_| self.store.lives.windows.longest());
        let random = draw(self.store.seed ^ self.flight.hash, 0, now);
        let (fresh_for, time_to_live) = match value {
            Some(_) => self.store.lives_there(random, said),
            None => (duration(said.unwrap_or(0)), duration(said.unwrap_or(0))),
        };
        let entry = TierEntry {
            age: duration(took),
            fresh_for,
            time_to_live,
            stale_for: duration(stale_for),
            validator,
            tags,
            ..TierEntry::new(self.key().clone(), value.cloned())
        };
        Some(TierChange::Load(held.name, entry, held.ticket))
    }
}

impl<K, V, S> Lead<K, V, S> {
    /// The load has landed: tells the tier, unless something newer had happened to the key. What had to leave
    /// is reported even if the `Drop` of a change that is not needed panics.
    pub(in crate::engine) fn tell(
        &mut self,
        change: Option<TierChange<K, V>>,
        stored: Stored,
        out: &mut Outbox<K, V>,
    ) {
        let Some(change) = change else { return };
        let store = Arc::clone(&self.store);
        let _unreported = Unreported { store: &store, out };
        match change {
            TierChange::Load(name, entry, ticket) if stored == Stored::Fenced => {
                self.keep_ticket(TicketHeld { name, ticket, began: 0, is_there: false });
                drop(entry);
            }
            change if stored == Stored::Fenced => drop(change),
            change => drop(store.tell(Some(change))),
        }
    }
}
