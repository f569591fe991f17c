//! Leave to call the source, and what becomes of it when the source is done.

use crate::parts::breaker::{Breaker, Trial, TrialVerdict};
use crate::parts::slots::{LoadSlot, LoadSlots};
use crate::parts::stack::{self, Running};
use std::sync::Arc;

/// What a cache may be given to protect its source; one that has neither has none of this.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) slots: Option<LoadSlots>,
    pub(crate) breaker: Option<Breaker>,
}

impl Guards {
    /// Whether the breaker would not let a load through that this thread began now.
    pub(super) fn would_refuse(&self) -> bool {
        let refuses = |breaker: &Breaker| !stack::is_running(breaker.id()) && breaker.refuses();
        self.breaker.as_ref().is_some_and(refuses)
    }
}

/// Leave to call the source. When it goes, its slot goes to the next, and the breaker is told.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(super) guards: Arc<Guards>,
    /// None where there is no limit, and for a load inside a load: that uses its parent's.
    pub(super) slot: Option<LoadSlot>,
    /// None where there is no breaker, and for a load inside the probe: that is a part of it.
    pub(super) trial: Option<Trial>,
    /// What the breaker will be told.
    verdict: TrialVerdict,
}

/// Leave to call the source once for several keys; of nothing, where the cache does not guard it.
#[derive(Debug, Default)]
pub(crate) struct Permit(pub(super) Option<Box<Pass>>);

impl Permit {
    pub(super) fn new(pass: Pass) -> Self {
        Self(Some(Box::new(pass)))
    }

    /// As [`Pass::enter`].
    pub(in crate::engine) fn enter(&self) -> Option<[Option<Running>; 2]> {
        self.0.as_ref().map(|pass| pass.enter())
    }

    /// The source is done with it: what that says of it, and the slot for the next.
    pub(in crate::engine) fn hand_back(&mut self, verdict: TrialVerdict) {
        if let Some(mut pass) = self.0.take() {
            pass.verdict = verdict;
        }
    }
}

impl Pass {
    pub(super) fn new(guards: &Arc<Guards>, slot: Option<LoadSlot>) -> Self {
        let guards = Arc::clone(guards);
        Self { guards, slot, trial: None, verdict: TrialVerdict::Unknown }
    }

    /// While what this returns lives, loads that this thread begins are inside this one.
    fn enter(&self) -> [Option<Running>; 2] {
        let Guards { slots, breaker } = &*self.guards;
        let slots = slots.as_ref().filter(|_| self.slot.is_some());
        let breaker = breaker.as_ref().filter(|_| self.trial.is_some_and(Trial::is_probe));
        [slots.map(|slots| stack::enter(slots.id())), breaker.map(|b| stack::enter(b.id()))]
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Guards { slots, breaker } = &*self.guards;
        // the breaker first: who gets the slot is to know what this one found out
        if let (Some(trial), Some(breaker)) = (self.trial.take(), breaker) {
            breaker.report(trial, self.verdict);
        }
        if let (Some(slot), Some(slots)) = (self.slot.take(), slots) {
            slots.give_back(slot);
        }
    }
}
