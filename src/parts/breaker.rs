//! A circuit breaker: after a number of failures in a row nobody calls the source for a while; then one call
//! probes it, and the outcome decides for all (M. Nygard, *Release It!*, 2007).
//!
//! It knows nothing of caches: a caller asks for a trial and reports how it went, and a trial that is not
//! reported in time has failed. A trial begun before the breaker opened says nothing about the time after, so
//! its report is ignored.

use crate::words::clock::Clock;
use crate::words::sync::Mutex;
use crate::words::tick::Tick;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

pub(crate) struct Breaker {
    /// How many failures in a row open it.
    failures: u32,
    /// For how many ticks it stays open.
    open_for: u64,
    /// Ticks after which a trial without a report has failed.
    patience: u64,
    clock: Clock,
    state: Mutex<State>,
    /// Whether somebody takes its transitions.
    is_watched: bool,
}

/// A change of its phase that is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    Opened,
    Closed,
}

struct State {
    phase: Phase,
    /// Trials that are not reported yet, in the order in which they began, and when they are overdue. All
    /// have the same patience, so the first one is overdue first. A probe is the only trial while it runs.
    running: BTreeMap<u64, Tick>,
    next: u64,
    /// The transitions that nobody has taken yet.
    transitions: VecDeque<Transition>,
}

/// Whether it lets calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does; the last `row` calls in a row failed.
    Closed { row: u32 },
    /// It does not; from this tick on, the next call is the probe.
    Open { until: Tick },
    /// The probe is under way, and no other call is let through.
    Probing,
}

/// A call that was let through, to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a trial that is not reported counts as a failure when its time is over"]
pub(crate) struct Trial {
    number: u64,
    is_probe: bool,
}

impl Trial {
    pub(crate) fn is_probe(self) -> bool {
        self.is_probe
    }
}

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrialVerdict {
    /// The source answered.
    Success,
    /// The source did not answer: an error, a panic, or nothing in time.
    Failure,
    /// Nobody knows: the caller went away. If it was the probe, the next call is one.
    Unknown,
}

impl Breaker {
    /// `failures` is not zero; the others are in ticks.
    pub(crate) fn new(failures: u32, open_for: u64, patience: u64, clock: Clock) -> Self {
        let phase = Phase::Closed { row: 0 };
        let (running, transitions) = (BTreeMap::new(), VecDeque::new());
        let state = Mutex::new(State { phase, running, next: 0, transitions });
        Self { failures, open_for, patience, clock, state, is_watched: false }
    }

    /// Sets whether somebody takes its [transitions](Self::take_transition).
    pub(crate) fn watched(self, is_watched: bool) -> Self {
        Self { is_watched, ..self }
    }

    /// Takes the next transition, in order, if there is one.
    pub(crate) fn take_transition(&self) -> Option<Transition> {
        self.state.lock().transitions.pop_front()
    }

    /// Its identity: an address that is unique while it exists.
    pub(crate) fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Asks for a trial. `None` if calls are not let through.
    pub(crate) fn admit(&self) -> Option<Trial> {
        let mut state = self.state.lock();
        let now = self.look(&mut state);
        let is_probe = match state.phase {
            Phase::Closed { .. } => false,
            Phase::Open { until } if until <= now => {
                state.phase = Phase::Probing;
                true
            }
            Phase::Open { .. } | Phase::Probing => return None,
        };
        state.next += 1;
        let number = state.next;
        state.running.insert(number, now.saturating_add(self.patience));
        Some(Trial { number, is_probe })
    }

    /// Whether [`admit`](Self::admit) would refuse. Begins nothing.
    pub(crate) fn refuses(&self) -> bool {
        let mut state = self.state.lock();
        let now = self.look(&mut state);
        match state.phase {
            Phase::Closed { .. } => false,
            Phase::Open { until } => now < until,
            Phase::Probing => true,
        }
    }

    pub(crate) fn report(&self, trial: Trial, verdict: TrialVerdict) {
        let mut state = self.state.lock();
        let now = self.look(&mut state);
        if state.running.remove(&trial.number).is_none() {
            return; // it was overdue, or begun before the breaker opened
        }
        match (verdict, state.phase) {
            (TrialVerdict::Success, phase) => {
                if phase == Phase::Probing {
                    self.note(&mut state, Transition::Closed);
                }
                state.phase = Phase::Closed { row: 0 };
            }
            (TrialVerdict::Failure, _) => self.count_failure(&mut state, now),
            (TrialVerdict::Unknown, Phase::Probing) => state.phase = Phase::Open { until: now },
            (TrialVerdict::Unknown, _) => {}
        }
    }

    /// The current phase, and the time.
    pub(crate) fn phase(&self) -> (Phase, Tick) {
        let mut state = self.state.lock();
        let now = self.look(&mut state);
        (state.phase, now)
    }

    /// Counts overdue trials as failures, each as of its deadline; returns the current time.
    fn look(&self, state: &mut State) -> Tick {
        // read under the lock: trials must become overdue in the order in which they began
        let now = self.clock.now();
        while let Some((_, at)) = state.running.first_key_value().filter(|(_, at)| **at <= now) {
            let at = *at;
            state.running.pop_first();
            self.count_failure(state, at);
        }
        now
    }

    fn count_failure(&self, state: &mut State, at: Tick) {
        let opens = match &mut state.phase {
            Phase::Closed { row } => {
                *row += 1;
                *row >= self.failures
            }
            Phase::Probing => true,
            Phase::Open { .. } => false,
        };
        if opens {
            state.phase = Phase::Open { until: at.saturating_add(self.open_for) };
            self.note(state, Transition::Opened);
            state.running.clear();
        }
    }

    fn note(&self, state: &mut State, transition: Transition) {
        if self.is_watched {
            state.transitions.push_back(transition);
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("failures", &self.failures).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;
    use crate::words::clock::ManualClock;
    use std::time::Duration;

    const OPEN_FOR: u64 = 1_000;
    const PATIENCE: u64 = 300;

    /// Three failures in a row open it.
    fn breaker() -> (Breaker, ManualClock) {
        let (clock, hand) = Clock::manual();
        (Breaker::new(3, OPEN_FOR, PATIENCE, clock), hand)
    }

    fn advance(hand: &ManualClock, ticks: u64) {
        hand.advance(Duration::from_millis(ticks));
    }

    fn report(breaker: &Breaker, verdict: TrialVerdict) {
        breaker.report(breaker.admit().expect("calls go through"), verdict);
    }

    fn open(breaker: &Breaker) {
        (0..3).for_each(|_| report(breaker, TrialVerdict::Failure));
        assert!(breaker.refuses() && breaker.admit().is_none());
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (breaker, _hand) = breaker();
        for verdict in [
            TrialVerdict::Failure,
            TrialVerdict::Failure,
            TrialVerdict::Success,
            TrialVerdict::Failure,
        ] {
            report(&breaker, verdict);
        }
        report(&breaker, TrialVerdict::Unknown);
        assert_eq!(breaker.phase().0, Phase::Closed { row: 1 });
        report(&breaker, TrialVerdict::Failure);
        assert!(!breaker.refuses());
        report(&breaker, TrialVerdict::Failure);
        assert!(breaker.refuses());
    }

    #[test]
    fn it_is_open_to_the_tick_and_then_lets_one_through() {
        let (breaker, hand) = breaker();
        open(&breaker);
        advance(&hand, OPEN_FOR - 1);
        assert!(breaker.refuses());
        advance(&hand, 1);
        assert!(!breaker.refuses());
        let probe = breaker.admit().unwrap();
        assert!(probe.is_probe());
        assert!(breaker.admit().is_none() && breaker.refuses());
        breaker.report(probe, TrialVerdict::Success);
        assert_eq!(breaker.phase().0, Phase::Closed { row: 0 });
    }

    #[test]
    fn a_probe_that_fails_opens_it_anew_from_then_on() {
        let (breaker, hand) = breaker();
        open(&breaker);
        advance(&hand, OPEN_FOR);
        let probe = breaker.admit().unwrap();
        advance(&hand, 200);
        breaker.report(probe, TrialVerdict::Failure);
        advance(&hand, OPEN_FOR - 1);
        assert!(breaker.refuses());
        advance(&hand, 1);
        assert!(!breaker.refuses());
    }

    #[test]
    fn after_a_probe_that_nobody_saw_the_end_of_the_next_one_probes() {
        let (breaker, hand) = breaker();
        open(&breaker);
        advance(&hand, OPEN_FOR);
        for _ in 0..3 {
            let probe = breaker.admit().unwrap();
            assert!(probe.is_probe());
            breaker.report(probe, TrialVerdict::Unknown);
        }
        report(&breaker, TrialVerdict::Success);
        assert!(!breaker.admit().unwrap().is_probe());
    }

    #[test]
    fn what_does_not_report_in_time_has_failed_then() {
        let (breaker, hand) = breaker();
        let late: Vec<_> = (0..3).map(|_| breaker.admit().unwrap()).collect();
        advance(&hand, PATIENCE - 1);
        assert!(!breaker.refuses());
        advance(&hand, 1 + OPEN_FOR - 1);
        assert!(breaker.refuses(), "open since they were overdue");
        advance(&hand, 1);
        let probe = breaker.admit().unwrap();
        assert!(probe.is_probe());
        // what the late ones say now is of a time before
        for trial in late {
            breaker.report(trial, TrialVerdict::Success);
        }
        assert_eq!(breaker.phase().0, Phase::Probing);
        advance(&hand, PATIENCE);
        assert_eq!(breaker.phase().0, Phase::Open { until: breaker.phase().1 + OPEN_FOR });
        breaker.report(probe, TrialVerdict::Success);
        assert!(breaker.refuses());
    }

    #[test]
    fn what_began_before_it_opened_is_not_heard_after() {
        let (breaker, hand) = breaker();
        let old: Vec<_> = (0..4).map(|_| breaker.admit().unwrap()).collect();
        open(&breaker);
        breaker.report(old[0], TrialVerdict::Success);
        assert!(breaker.refuses());
        advance(&hand, OPEN_FOR);
        breaker.report(old[1], TrialVerdict::Failure);
        assert!(!breaker.refuses());
        let probe = breaker.admit().unwrap();
        breaker.report(old[2], TrialVerdict::Failure);
        assert_eq!(breaker.phase().0, Phase::Probing);
        breaker.report(probe, TrialVerdict::Success);
        breaker.report(old[3], TrialVerdict::Failure);
        assert_eq!(breaker.phase().0, Phase::Closed { row: 0 });
    }

    #[test]
    fn it_stays_open_for_ever_without_wrapping() {
        let (clock, hand) = Clock::manual();
        let breaker = Breaker::new(1, u64::MAX, u64::MAX, clock);
        report(&breaker, TrialVerdict::Failure);
        hand.advance(Duration::MAX);
        assert!(breaker.refuses());
    }
}
