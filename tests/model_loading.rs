//! A cache that owns its loader against a naive model of it: what stands, what failed lately, and which loads
//! are under way in the background, where each is stepped by hand.

mod common;

use common::{ms, watched};
use larder::{
    Cache, Clock, How, LoadCx, LoadError, LoadReason, Loaded, Loader, LoadingCache, ManualClock,
    RefreshAhead, StaleWhy, SteppingRuntime,
};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const KEYS: u8 = 3;
/// The pause after a failure that left something to serve, where no back-off is set.
const PAUSE: u64 = 1_000;

/// What the source says when it is asked next.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Value,
    Missing,
    Unchanged,
    Error,
}

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Load(u8, Answer),
    /// By a caller that takes no older values than so.
    LoadYoung(u8, u64, Answer),
    Force(u8, Answer),
    Refresh(u8),
    /// The load that has been under way in the background for longest.
    Step(Answer),
    Insert(u8),
    Remove(u8),
    Expire(u8),
    RemoveIf(u64),
    Clear,
    Sweep,
    Advance(u64),
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    ttl: u64,
    revalidate: u64,
    on_error: u64,
    negative: u64,
    ahead: bool,
    back_off: Option<(u64, u64)>,
}

fn settings() -> impl Strategy<Value = Settings> {
    let back_off = prop_oneof![Just(None), Just(Some((4, 10))), Just(Some((0, 0)))];
    let window = || prop_oneof![Just(0), Just(6), Just(30)];
    (2..20_u64, window(), window(), 0..9_u64, any::<bool>(), back_off).prop_map(
        |(ttl, revalidate, on_error, negative, ahead, back_off)| Settings {
            ttl,
            revalidate,
            on_error,
            negative,
            ahead,
            back_off,
        },
    )
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || 0..KEYS;
    let answer = || {
        prop_oneof![
            4 => Just(Answer::Value),
            1 => Just(Answer::Missing),
            1 => Just(Answer::Unchanged),
            3 => Just(Answer::Error),
        ]
    };
    let op = prop_oneof![
        3 => key().prop_map(Op::Get),
        6 => (key(), answer()).prop_map(|(key, answer)| Op::Load(key, answer)),
        1 => (key(), 0..8_u64, answer()).prop_map(|(key, age, a)| Op::LoadYoung(key, age, a)),
        1 => (key(), answer()).prop_map(|(key, answer)| Op::Force(key, answer)),
        1 => key().prop_map(Op::Refresh),
        4 => answer().prop_map(Op::Step),
        1 => key().prop_map(Op::Insert),
        1 => key().prop_map(Op::Remove),
        1 => key().prop_map(Op::Expire),
        1 => (2..4_u64).prop_map(Op::RemoveIf),
        1 => Just(Op::Clear),
        1 => Just(Op::Sweep),
        5 => (1..12_u64).prop_map(Op::Advance),
    ];
    prop::collection::vec(op, 1..60)
}

/// What a loader was shown.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shown {
    key: u8,
    reason: LoadReason,
    attempt: u32,
    stale: Option<u64>,
}

/// The source: its next answer, the number in it, and what its last question was.
struct Source {
    answer: Answer,
    number: u64,
    asked: Option<Shown>,
}

struct Asks(Arc<Mutex<Source>>);

impl Loader<u8, u64> for Asks {
    type Error = u64;

    fn load(&self, key: &u8, cx: &LoadCx<u64>) -> Result<Loaded<u64>, u64> {
        let mut source = self.0.lock();
        let (key, stale) = (*key, cx.stale().copied());
        let shown = Shown { key, reason: cx.reason(), attempt: cx.attempt(), stale };
        assert_eq!(source.asked.replace(shown), None, "asked twice");
        match source.answer {
            Answer::Value => Ok(Loaded::new(source.number)),
            Answer::Missing => Ok(Loaded::missing()),
            Answer::Unchanged => Ok(Loaded::unchanged()),
            Answer::Error => Err(source.number),
        }
    }
}

/// What stands under a key. `None` for "not found".
#[derive(Clone, Copy)]
struct Standing {
    value: Option<u64>,
    stored: u64,
    expiry: u64,
}

#[derive(Clone, Copy)]
struct Failure {
    in_a_row: u32,
    until: u64,
    /// What callers are told meanwhile.
    told: Option<Outcome>,
}

/// A load in the background.
struct Job {
    key: u8,
    reason: LoadReason,
    /// Whether nothing has been written since it began.
    has_key: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Got(u64, How),
    NotFound,
    Failed(u64),
    NothingToRenew,
}

#[derive(Default)]
struct Model {
    now: u64,
    standing: BTreeMap<u8, Standing>,
    failures: BTreeMap<u8, Failure>,
    jobs: VecDeque<Job>,
    /// Hits, stale hits, misses.
    lookups: (u64, u64, u64),
    refreshes: u64,
    loads: u64,
}

impl Model {
    fn fresh(&self, key: u8) -> Option<Standing> {
        self.standing.get(&key).copied().filter(|it| self.now < it.expiry)
    }

    /// A value that is fresh, or within a window.
    fn servable(&self, key: u8, settings: &Settings) -> Option<(u64, Standing)> {
        let window = settings.revalidate.max(settings.on_error);
        let it = self.standing.get(&key).copied()?;
        (self.now < it.expiry + window).then_some((it.value?, it))
    }

    /// What the loader of a key is to be shown.
    fn check_shown(&self, shown: &Shown, settings: &Settings) {
        let stale = self.servable(shown.key, settings).map(|(value, _)| value);
        let attempt = self.failures.get(&shown.key).map_or(0, |failure| failure.in_a_row);
        assert_eq!((shown.stale, shown.attempt), (stale, attempt), "shown");
    }

    fn is_loading(&self, key: u8) -> bool {
        self.jobs.iter().any(|job| job.key == key && job.has_key)
    }

    fn held_back(&self, key: u8) -> Option<Failure> {
        self.failures.get(&key).copied().filter(|failure| self.now < failure.until)
    }

    fn write(&mut self, key: u8) {
        self.failures.remove(&key);
        self.jobs.iter_mut().filter(|job| job.key == key).for_each(|job| job.has_key = false);
    }

    fn send(&mut self, key: u8, reason: LoadReason) {
        self.refreshes += 1;
        self.jobs.push_back(Job { key, reason, has_key: true });
    }

    fn hit(&mut self, key: u8, it: Standing, settings: &Settings) {
        self.lookups.0 += 1;
        let is_due = self.now >= it.stored + (it.expiry - it.stored).div_ceil(2);
        let may_load = !self.is_loading(key) && self.held_back(key).is_none();
        if settings.ahead && it.value.is_some() && is_due && may_load {
            self.send(key, LoadReason::Refresh);
        }
    }

    fn store(&mut self, key: u8, value: Option<u64>, life: u64) {
        self.standing.remove(&key);
        if life > 0 {
            let it = Standing { value, stored: self.now, expiry: self.now + life };
            self.standing.insert(key, it);
        }
    }

    /// A load is done; what it came to, stale values aside.
    fn land(&mut self, shown: Shown, source: &Source, has_key: bool, set: &Settings) -> Outcome {
        self.loads += 1;
        let key = shown.key;
        let (outcome, value) = match (source.answer, shown.stale) {
            (Answer::Value, _) => (Outcome::Got(source.number, How::Loaded), Some(source.number)),
            (Answer::Unchanged, Some(old)) => (Outcome::Got(old, How::Loaded), Some(old)),
            (Answer::Missing, _) => (Outcome::NotFound, None),
            (Answer::Unchanged, None) => (Outcome::NothingToRenew, None),
            (Answer::Error, _) => (Outcome::Failed(source.number), None),
        };
        match outcome {
            _ if !has_key => {}
            Outcome::Got(..) | Outcome::NotFound => {
                self.failures.remove(&key);
                self.store(key, value, if value.is_some() { set.ttl } else { set.negative });
            }
            Outcome::Failed(_) | Outcome::NothingToRenew => {
                let in_a_row = shown.attempt + 1;
                let pause = match set.back_off {
                    Some((min, max)) => (min << (in_a_row - 1).min(16)).min(max),
                    None if self.servable(key, set).is_some() => PAUSE,
                    None => 0,
                };
                let told = set.back_off.map(|_| outcome);
                self.failures.insert(key, Failure { in_a_row, until: self.now + pause, told });
            }
        }
        outcome
    }

    /// What a caller gets that asks for no load, or why it has to load itself. `Err(None)` where it would wait
    /// for a load in the background, which nobody steps.
    fn ask(
        &mut self,
        key: u8,
        (age, is_forced): (Option<u64>, bool),
        set: &Settings,
    ) -> Result<Outcome, Option<LoadReason>> {
        let takes =
            |now: u64, it: &Standing| !is_forced && age.is_none_or(|a| now - it.stored <= a);
        let mut reason = LoadReason::Miss;
        if let Some(it) = self.fresh(key) {
            if takes(self.now, &it) {
                self.hit(key, it, set);
                let got = |value| Outcome::Got(value, How::Fresh);
                return Ok(it.value.map_or(Outcome::NotFound, got));
            }
            reason = LoadReason::Expired;
        } else if let Some((value, it)) = self.servable(key, set) {
            reason = LoadReason::Expired;
            let is_loading = self.is_loading(key);
            let within = self.now < it.expiry + set.revalidate;
            if takes(self.now, &it) && (within || !is_loading) {
                let is_held = !is_loading && self.held_back(key).is_some();
                if is_held || within {
                    if !is_held && !is_loading {
                        self.send(key, LoadReason::Expired);
                    }
                    self.lookups.1 += 1;
                    let why = if is_held { StaleWhy::BackOff } else { StaleWhy::Revalidating };
                    return Ok(Outcome::Got(value, How::Stale(why)));
                }
            }
        }
        if self.is_loading(key) {
            return Err(None);
        }
        if is_forced {
            return Err(Some(LoadReason::Forced));
        }
        if let Some(told) = self.held_back(key).and_then(|failure| failure.told) {
            self.lookups.2 += 1;
            return Ok(told);
        }
        Err(Some(reason))
    }
}

/// A cache and the model of it.
struct Rig {
    set: Settings,
    cache: LoadingCache<u8, u64, Asks>,
    hand: ManualClock,
    runtime: SteppingRuntime,
    source: Arc<Mutex<Source>>,
    model: Model,
}

impl Rig {
    fn new(set: Settings) -> Self {
        let (clock, hand) = Clock::manual();
        let runtime = SteppingRuntime::new();
        let source = Source { answer: Answer::Value, number: 0, asked: None };
        let source = Arc::new(Mutex::new(source));
        let mut builder = Cache::<u8, u64>::builder()
            .max_entries(100)
            .clock(clock)
            .runtime(runtime.clone())
            .time_to_live(ms(set.ttl))
            .stale_while_revalidate(ms(set.revalidate))
            .stale_if_error(ms(set.on_error))
            .negative_ttl(ms(set.negative));
        if set.ahead {
            builder = builder.refresh_ahead(RefreshAhead::At(0.5));
        }
        if let Some((min, max)) = set.back_off {
            builder = builder.error_backoff(ms(min), ms(max));
        }
        let cache = builder.build_loading(Asks(Arc::clone(&source))).unwrap();
        Self { set, cache, hand, runtime, source, model: Model::default() }
    }

    fn apply(&mut self, op: &Op) {
        let value = {
            let mut source = self.source.lock();
            source.number += 1;
            source.asked = None;
            source.number
        };
        let model = &mut self.model;
        match *op {
            Op::Get(key) => {
                let want = model.fresh(key);
                match want {
                    Some(it) => model.hit(key, it, &self.set),
                    None => model.lookups.2 += 1,
                }
                assert_eq!(self.cache.get(&key), want.and_then(|it| it.value), "get");
            }
            Op::Load(key, answer) => self.load(key, None, false, answer),
            Op::LoadYoung(key, age, answer) => self.load(key, Some(age), false, answer),
            Op::Force(key, answer) => self.load(key, None, true, answer),
            Op::Refresh(key) => {
                if !model.is_loading(key) {
                    model.send(key, LoadReason::Refresh);
                }
                self.cache.refresh(&key);
            }
            Op::Step(answer) => self.step(answer),
            Op::Advance(by) => {
                model.now += by;
                self.hand.advance(ms(by));
            }
            Op::Insert(key) => {
                model.write(key);
                model.store(key, Some(value), self.set.ttl);
                self.cache.insert(key, value);
            }
            Op::Remove(key) => {
                let want = model.fresh(key).and_then(|it| it.value);
                model.write(key);
                model.standing.remove(&key);
                assert_eq!(self.cache.remove(&key), want, "remove");
            }
            Op::Expire(key) => {
                let want = model.fresh(key).is_some_and(|it| it.value.is_some());
                model.write(key);
                if let Some(it) = model.standing.get_mut(&key) {
                    it.expiry = it.expiry.min(model.now);
                }
                assert_eq!(self.cache.expire(&key), want, "expire");
            }
            Op::RemoveIf(of) => {
                model.jobs.iter_mut().for_each(|job| job.has_key = false);
                for key in 0..KEYS {
                    if model.servable(key, &self.set).is_some_and(|(value, _)| value % of == 0) {
                        model.write(key);
                        model.standing.remove(&key);
                    }
                }
                self.cache.remove_if(|_, value| value % of == 0);
            }
            Op::Clear => {
                (0..KEYS).for_each(|key| model.write(key));
                model.standing.clear();
                self.cache.clear();
            }
            Op::Sweep => {
                self.cache.sweep();
            }
        }
    }

    fn step(&mut self, answer: Answer) {
        self.source.lock().answer = answer;
        let job = self.model.jobs.pop_front();
        assert_eq!(self.runtime.step(), job.is_some(), "what was sent is there");
        let Some(job) = job else { return };
        let source = self.source.lock();
        let Some(shown) = source.asked else {
            assert!(!job.has_key, "a load that asked nobody");
            return;
        };
        assert_eq!((shown.key, shown.reason), (job.key, job.reason));
        if job.has_key {
            self.model.check_shown(&shown, &self.set);
        }
        self.model.land(shown, &source, job.has_key, &self.set);
    }

    /// One call that loads what it does not find.
    fn load(&mut self, key: u8, age: Option<u64>, is_forced: bool, answer: Answer) {
        let (model, set) = (&mut self.model, &self.set);
        self.source.lock().answer = answer;
        let was_gone = model.fresh(key).is_none() && model.servable(key, set).is_none();
        let want = match model.ask(key, (age, is_forced), set) {
            Err(None) => return,
            want => want,
        };
        let mut call = self.cache.at(&key);
        if let Some(age) = age {
            call = call.max_age(ms(age));
        }
        if is_forced {
            call = call.force();
        }
        let got = match call.read_through() {
            Ok(got) => Outcome::Got(got.value, got.how),
            Err(LoadError::NotFound) => Outcome::NotFound,
            Err(LoadError::Loader(number)) => Outcome::Failed(*number),
            Err(LoadError::NothingToRenew) => Outcome::NothingToRenew,
            Err(other) => panic!("{other:?}"),
        };
        let source = self.source.lock();
        let want = match (want, source.asked) {
            (Ok(want), None) => want,
            (Err(Some(reason)), Some(shown)) => {
                model.check_shown(&shown, set);
                // what is gone may be freed, or not
                assert!(was_gone || shown.reason == reason, "{:?}, not {reason:?}", shown.reason);
                let outcome = model.land(shown, &source, true, set);
                let has_failed = matches!(outcome, Outcome::Failed(_) | Outcome::NothingToRenew);
                let now = model.now;
                let takes =
                    |it: &Standing| !is_forced && age.is_none_or(|age| now - it.stored <= age);
                let stale = model.servable(key, set).filter(|(_, it)| has_failed && takes(it));
                if let Some((value, _)) = stale {
                    model.lookups.1 += 1;
                    Outcome::Got(value, How::Stale(StaleWhy::LoadFailed))
                } else {
                    model.lookups.2 += 1;
                    outcome
                }
            }
            (want, asked) => panic!("asked {asked:?}, for {want:?}"),
        };
        assert_eq!(got, want);
    }

    fn compare(&self) {
        let (model, set) = (&self.model, &self.set);
        for key in 0..KEYS {
            let got = self.cache.peek(&key).map(|got| (got.value, got.age));
            let want = model.servable(key, set);
            let told = self.cache.explain(&key);
            assert_eq!(got, want.map(|(value, it)| (value, ms(model.now - it.stored))), "{key}");
            let failure = told.failure.map(|failing| (failing.in_a_row, failing.next_try));
            // without an error to tell, the pause is for what can be served meanwhile
            let is_served = want.is_some_and(|(_, it)| set.ahead || model.now >= it.expiry);
            let pause = |f: &Failure| {
                let holds = f.told.is_some() || is_served;
                if holds { f.until.saturating_sub(model.now) } else { 0 }
            };
            let want = model.failures.get(&key).map(|f| (f.in_a_row, ms(pause(f))));
            assert_eq!(failure, want, "failures of {key}");
            assert_eq!(told.load.is_some(), model.is_loading(key), "loads of {key}");
        }
        let stats = self.cache.stats();
        assert_eq!((stats.hits, stats.stale_hits, stats.misses), model.lookups);
        assert_eq!((stats.refreshes, stats.loads), (model.refreshes, model.loads));
        assert_eq!(self.runtime.ready(), model.jobs.len());
        self.cache.validate();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_loading_cache_does_what_the_model_does(set in settings(), ops in ops()) {
        let mut rig = Rig::new(set);
        let _watched = watched(&rig.cache);
        for op in &ops {
            rig.apply(op);
            rig.compare();
        }
        rig.runtime.run_until_stalled();
    }
}
