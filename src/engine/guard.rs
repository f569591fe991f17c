//! Guards the source against loads: a limited number at a time, and none while the source fails.

pub(crate) mod line;
mod pass;

use super::lead::{Lead, Progress};
use super::store::Store;
use crate::parts::flight::{Flight, Landing};
use crate::parts::slots::{LoadSlot, Place, Queued, Rank};
use crate::parts::stack;
use crate::parts::turn::{NoSlot, Turn};
use crate::words::error::LoadError;
use crate::words::tick::Tick;
pub(crate) use pass::{Guards, Pass, Permit};
use std::sync::Arc;

/// Whether a caller can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// It can return an error.
    Loads,
    /// It cannot (`get_or_insert_with`): it waits for a slot as long as it takes, and the breaker does not stop
    /// it, since a load that cannot fail says nothing about the source.
    Makes,
}

/// What a caller keeps when it has to look again.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// The pass of a load whose turn had come, but which had lost its key to something newer.
    pass: Option<Box<Pass>>,
    /// The place in line of an abandoned load that it had waited for.
    place: Option<Place>,
}

impl Carried {
    /// To be called before it waits for somebody else: a waiter holds no slot of its own.
    #[inline]
    pub(crate) fn put_down(&mut self) {
        self.pass = None;
    }

    /// The caller hands its load to the background, where that takes the caller's place in line.
    pub(crate) fn lend<K, V>(&self, flight: &Flight<K, V>) {
        if let Some(place) = self.place {
            flight.take_place(place);
        }
    }

    /// To be called if the load that it waited for was abandoned: takes over that load's place.
    pub(crate) fn inherit<K, V>(&mut self, flight: &Flight<K, V>) {
        self.place = match (self.place, flight.place()) {
            (Some(mine), Some(its)) => Some(mine.min(its)),
            (mine, its) => mine.or(its),
        };
    }
}

/// Whether a load may begin at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Open,
    /// All slots are taken: serve what is there, or [`queue`](Lead::queue).
    Busy,
}

/// Why a load does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No slot was free in time.
    Overloaded,
    /// The breaker is open.
    CircuitOpen,
    /// It was given a slot, but did not begin before the slot's lease was over.
    Over,
    /// It waited for a slot, and lost its key to something newer: look again.
    Outdated,
}

impl From<NoSlot> for Refusal {
    fn from(none: NoSlot) -> Self {
        match none {
            NoSlot::Late => Self::Overloaded,
            NoSlot::Over => Self::Over,
        }
    }
}

/// The loads that wait for one slot: a single one, or those of a batch.
struct Flights<K, V>(Vec<Arc<Flight<K, V>>>);

impl<K: Send + Sync, V: Send + Sync> Queued for Flights<K, V> {
    fn begin(&self, at: Tick) {
        self.0.iter().for_each(|flight| flight.begin(at));
    }
}

impl<K, V, S> Store<K, V, S> {
    /// Whether a load is counted when it may begin, and not with its lead: the second tier may have the value,
    /// the source may be guarded, and what is sent to the background may never get there.
    pub(super) fn counts_begun(&self) -> bool {
        self.guards.is_some() || self.tier.is_some() || self.refresher.is_some()
    }

    /// How many loads wait for a slot.
    pub(crate) fn loads_in_line(&self) -> usize {
        let slots = self.guards.as_ref().and_then(|guards| guards.slots.as_ref());
        slots.map_or(0, |slots| slots.used().1)
    }

    /// Whether a load that began now would have to stand in line.
    pub(crate) fn is_crowded(&self) -> bool {
        match self.guards.as_deref() {
            Some(Guards { slots: Some(slots), .. }) => {
                !stack::is_running(slots.id()) && slots.are_taken()
            }
            _ => false,
        }
    }

    /// Whether a load that began now would be told that the breaker is open. (If there is a second tier, it
    /// is asked first.)
    pub(super) fn is_stopped(&self) -> bool {
        self.tier.is_none() && self.guards.as_ref().is_some_and(|guards| guards.would_refuse())
    }

    /// A caller is about to wait for this flight. If the caller is inside a load of its own that has a slot,
    /// and the flight waits for one, neither would ever go on: so the flight goes first.
    #[inline]
    pub(crate) fn hurry(&self, flight: &Flight<K, V>) {
        let Some(Guards { slots: Some(slots), .. }) = self.guards.as_deref() else { return };
        if stack::is_running(slots.id()) {
            if let Some(place) = flight.hurry() {
                slots.let_through(place);
            }
        }
    }

    /// Asks for a slot, if slots are limited. `None` if all are taken.
    fn try_slot(&self, guards: &Arc<Guards>, caller: Caller) -> Result<Option<Pass>, Refusal> {
        // before a slot is asked for: nobody should stand in line only to hear this
        if caller == Caller::Loads && guards.would_refuse() {
            return Err(self.stopped());
        }
        let slot = match &guards.slots {
            Some(slots) if !stack::is_running(slots.id()) => match slots.try_take() {
                Some(slot) => Some(slot),
                None => return Ok(None),
            },
            _ => None,
        };
        Ok(Some(Pass::new(guards, slot)))
    }

    /// The last check before the source is called: whether the breaker lets the load through.
    fn try_source(&self, mut pass: Pass, caller: Caller) -> Result<Pass, Refusal> {
        if let (Caller::Loads, Some(breaker)) = (caller, &pass.guards.breaker) {
            if !stack::is_running(breaker.id()) {
                pass.trial = Some(breaker.admit().ok_or_else(|| self.stopped())?);
            }
        }
        Ok(pass)
    }

    fn stopped(&self) -> Refusal {
        self.counts.circuit_open.add(1);
        Refusal::CircuitOpen
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// All slots were taken: gets in line, until `deadline`. Callers that come for a key meanwhile wait for
    /// its flight, whose time does not run.
    fn queue(
        &self,
        flights: Vec<Arc<Flight<K, V>>>,
        before: Option<Place>,
        deadline: Option<Tick>,
    ) -> Turn<'_> {
        let Some(Guards { slots: Some(slots), .. }) = self.guards.as_deref() else {
            unreachable!("it was a slot that was not free")
        };
        for flight in &flights {
            flight.wait();
        }
        let flights = Arc::new(Flights(flights));
        let turn = Turn::new(slots, &self.clock, flights.clone(), Rank::Miss, before, deadline);
        if let Some(place) = turn.place() {
            let mut is_urgent = false;
            for flight in &flights.0 {
                is_urgent |= flight.wait_at(place);
            }
            if is_urgent {
                slots.let_through(place);
            }
        }
        turn
    }

    /// Asks for permission once for several keys that are loaded together. `None` if all slots are taken.
    pub(crate) fn enter_many(&self) -> Result<Option<Permit>, Refusal> {
        let Some(guards) = &self.guards else { return Ok(Some(Permit::default())) };
        let Some(pass) = self.try_slot(guards, Caller::Loads)? else { return Ok(None) };
        Ok(Some(Permit::new(self.try_source(pass, Caller::Loads)?)))
    }

    /// All slots were taken: gets in line with all of these loads, for one slot.
    pub(crate) fn queue_many(&self, leads: &[Lead<K, V, S>]) -> Turn<'_> {
        self.queue(leads.iter().map(|lead| Arc::clone(&lead.flight)).collect(), None, None)
    }

    /// As [`enter_many`](Self::enter_many), after the wait for a slot.
    pub(crate) fn enter_many_with(&self, slot: LoadSlot) -> Result<Permit, Refusal> {
        let Some(guards) = &self.guards else { return Ok(Permit::default()) };
        Ok(Permit::new(self.try_source(Pass::new(guards, Some(slot)), Caller::Loads)?))
    }
}

impl<K, V, S> Lead<K, V, S> {
    /// Asks for permission to call the source.
    #[inline]
    pub(crate) fn enter(
        &mut self,
        caller: Caller,
        carried: &mut Carried,
    ) -> Result<Entrance, Refusal> {
        if self.store.guards.is_none() {
            if self.store.counts_begun() && !self.flight.is_in_batch() {
                self.store.lookups.load();
            }
            return Ok(Entrance::Open);
        }
        self.enter_guarded(caller, carried)
    }

    #[inline(never)]
    fn enter_guarded(
        &mut self,
        caller: Caller,
        carried: &mut Carried,
    ) -> Result<Entrance, Refusal> {
        let Some(guards) = &self.store.guards else { return Ok(Entrance::Open) };
        let pass = match carried.pass.take() {
            Some(pass) => *pass,
            None => match self.store.try_slot(guards, caller)? {
                Some(pass) => pass,
                None => return Ok(Entrance::Busy),
            },
        };
        self.pass(pass, caller, carried).map(|()| Entrance::Open)
    }

    /// The same after it has waited, and has its slot.
    pub(crate) fn enter_with(
        &mut self,
        slot: LoadSlot,
        caller: Caller,
        carried: &mut Carried,
    ) -> Result<(), Refusal> {
        let Some(guards) = &self.store.guards else { return Ok(()) };
        let pass = Pass::new(guards, Some(slot));
        self.pass(pass, caller, carried)
    }

    fn pass(&mut self, pass: Pass, caller: Caller, carried: &mut Carried) -> Result<(), Refusal> {
        if self.is_outdated() {
            carried.pass = Some(Box::new(pass));
            return Err(Refusal::Outdated);
        }
        self.permit = Permit::new(self.store.try_source(pass, caller)?);
        self.store.lookups.load();
        Ok(())
    }

    /// Whether it has lost its key to something newer while it waited.
    pub(crate) fn is_outdated(&self) -> bool {
        self.flight.is_grounded()
    }

    /// The load does not begin. Returns its caller's error; `None` if the caller has to look again.
    pub(crate) fn refuse<E>(mut self, refusal: Refusal) -> Option<LoadError<E>> {
        let error = self.refuse_quietly(refusal);
        let store = Arc::clone(&self.store);
        let late = self.is_late().then(|| Arc::clone(&self.flight));
        // if only this caller is refused, the waiters look again
        drop(self);
        late.inspect(|flight| store.emit_timed_out(flight));
        store.emit_transitions();
        error
    }

    fn refuse_quietly<E>(&mut self, refusal: Refusal) -> Option<LoadError<E>> {
        match refusal {
            Refusal::Overloaded => {
                // only this caller's patience is over: its followers go on without it
                self.store.counts.overloaded.add(1);
                Some(LoadError::Overloaded)
            }
            Refusal::CircuitOpen => {
                self.land_without(Landing::CircuitOpen);
                Some(LoadError::CircuitOpen)
            }
            Refusal::Over => {
                self.progress = Progress::Done;
                self.lose_key();
                Some(LoadError::TimedOut)
            }
            Refusal::Outdated => None,
        }
    }
}

/// None of these loads begins. Returns for each what [`Lead::refuse`] would.
pub(crate) fn refuse_all<K, V, S, E>(
    mut leads: Vec<Lead<K, V, S>>,
    refusal: Refusal,
) -> Vec<Option<LoadError<E>>> {
    let refused = leads.iter_mut().map(|lead| lead.refuse_quietly(refusal)).collect();
    let Some(store) = leads.first().map(|lead| Arc::clone(&lead.store)) else { return refused };
    let late = leads.iter().filter(|lead| lead.is_late()).map(|lead| Arc::clone(&lead.flight));
    let late: Vec<_> = late.collect();
    drop(leads);
    for flight in &late {
        store.emit_timed_out(flight);
    }
    store.emit_transitions();
    refused
}

impl<K, V, S> Lead<K, V, S>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// All slots were taken: waits for one, until `deadline`.
    pub(crate) fn queue<'s>(
        &self,
        store: &'s Store<K, V, S>,
        carried: &mut Carried,
        deadline: Option<Tick>,
    ) -> Turn<'s> {
        store.queue(vec![Arc::clone(&self.flight)], carried.place.take(), deadline)
    }
}
