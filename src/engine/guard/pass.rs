//! Permission to call the source, and giving it back when the source is done.

use crate::parts::breaker::{Breaker, Trial, TrialVerdict};
use crate::parts::slots::{LoadSlot, LoadSlots};
use crate::parts::stack::{self, Running};
use crate::rules::counted::CountedErrors;
use std::any::Any;
use std::sync::Arc;

/// What protects a cache's source; a cache with neither of the two has no `Guards`.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) slots: Option<LoadSlots>,
    pub(crate) breaker: Option<Breaker>,
    /// Which errors the breaker hears of.
    pub(crate) counted: CountedErrors,
}

impl Guards {
    /// Whether the breaker would turn away a load that this thread began now.
    pub(super) fn would_refuse(&self) -> bool {
        let refuses = |breaker: &Breaker| !stack::is_running(breaker.id()) && breaker.refuses();
        self.breaker.as_ref().is_some_and(refuses)
    }
}

/// RAII guard of the permission to call the source. Its drop tells the breaker, and hands the slot to the
/// next in line.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(super) guards: Arc<Guards>,
    /// `None` if there is no limit, and for a load inside a load: that uses its parent's.
    pub(super) slot: Option<LoadSlot>,
    /// `None` if there is no breaker, and for a load inside the probe: that is a part of the probe.
    pub(super) trial: Option<Trial>,
    /// What the breaker will be told on drop.
    verdict: TrialVerdict,
}

/// Permission to call the source once, for one key or several; empty if the cache does not guard its source.
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

    /// What a loader's error says of the source: that it failed, or that it answered, if the error does not
    /// [count](CountedErrors).
    pub(in crate::engine) fn verdict_of(&self, error: &dyn Any) -> TrialVerdict {
        match &self.0 {
            Some(pass) if !pass.guards.counted.counts(error) => TrialVerdict::Success,
            _ => TrialVerdict::Failure,
        }
    }

    /// The source is done: tells the breaker the verdict, and hands the slot on.
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

    /// While the returned guards live, loads that this thread begins count as inside this one.
    fn enter(&self) -> [Option<Running>; 2] {
        let Guards { slots, breaker, .. } = &*self.guards;
        let slots = slots.as_ref().filter(|_| self.slot.is_some());
        let breaker = breaker.as_ref().filter(|_| self.trial.is_some_and(Trial::is_probe));
        [slots.map(|slots| stack::enter(slots.id())), breaker.map(|b| stack::enter(b.id()))]
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Guards { slots, breaker, .. } = &*self.guards;
        // the breaker first: whoever gets the slot should know what this load found out
        if let (Some(trial), Some(breaker)) = (self.trial.take(), breaker) {
            breaker.report(trial, self.verdict);
        }
        if let (Some(slot), Some(slots)) = (self.slot.take(), slots) {
            slots.give_back(slot);
        }
    }
}
