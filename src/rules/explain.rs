//! The explanation of one key's state.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a key is, or is not, fresh: what [`Cache::explain`](crate::Cache::explain) returns. All durations
/// count from the moment of the call, by the cache's clock; [`Duration::MAX`] means for ever.
///
/// `Display` formats it as a few lines, without the key and the value:
///
/// ```
/// use larder::{Cache, Clock};
/// use std::time::Duration;
///
/// let (clock, hand) = Clock::manual();
/// let cache: Cache<u64, String> = Cache::builder()
///     .max_entries(100)
///     .time_to_live(Duration::from_secs(60))
///     .stale_if_error(Duration::from_secs(3_600))
///     .circuit_breaker(5, Duration::from_secs(10))
///     .clock(clock)
///     .build()?;
/// cache.insert(42, "Ann".to_owned());
/// hand.advance(Duration::from_secs(100));
/// assert!(cache.get_or_load(&42, || Err("connection refused")).is_ok(), "served stale");
/// hand.advance(Duration::from_millis(200));
/// assert_eq!(
///     cache.explain(&42).to_string(),
///     "expired: served stale at once, because the last load failed\n\
///      age: 100.2s; fresh until 40.2s ago; served if loads fail for another 3559.8s\n\
///      loads: the last one failed 200ms ago, 1 in a row; next try in 800ms\n\
///      circuit breaker: closed, 1 failure in a row"
/// );
/// # Ok::<_, larder::ConfigError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation {
    /// What a caller gets, in short.
    pub standing: Standing,
    /// How long ago the value, or the answer that there is none, was stored.
    pub age: Option<Duration>,
    /// Until when it is fresh.
    pub fresh: Option<End>,
    /// Until when it is served stale at once while it is reloaded; only for values, and only if
    /// `stale_while_revalidate` is set.
    pub revalidate: Option<End>,
    /// Until when it is served if its load fails; only for values, and only if `stale_if_error` is set.
    pub error_only: Option<End>,
    /// What the source calls this version of the value.
    pub validator: Option<Arc<str>>,
    /// Set if the last load of this key failed, and none has succeeded since. The cache remembers the
    /// failures of a limited number of keys.
    pub failure: Option<Failing>,
    /// The load of this key that is under way, if there is one.
    pub load: Option<Underway>,
    /// Whether a write of this key is under way, or a [`WriteFence`](crate::WriteFence) of it is in force: no
    /// load that overlaps it is stored.
    pub is_fenced: bool,
    /// Whether a change of this key waits in a [`WriteBehind`](crate::WriteBehind): until it is written,
    /// callers who miss are answered with it, and nothing is loaded.
    pub is_unwritten: bool,
    /// The second [`Tier`](crate::Tier), if the cache has one.
    pub tier: Option<TierState>,
    /// The circuit breaker of the whole cache, if it has one (`circuit_breaker`).
    pub breaker: Option<BreakerState>,
    /// The load slots of the whole cache, if they are limited (`max_concurrent_loads`).
    pub slots: Option<SlotsUsed>,
}

/// Whether a cache asks its second tier for a key, and how many changes wait to reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TierState {
    /// Whether a load of this key asks the tier first. It does not while a change of this key, or of all
    /// keys, has yet to arrive there.
    pub is_asked: bool,
    /// How many changes, of any keys, have yet to arrive there. If this stays above zero, the tier cannot be
    /// reached.
    pub pending: usize,
}

/// The state of a key's entry, from fresh to absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// Nothing that could be served is stored.
    #[default]
    Absent,
    /// The source was asked, and has no such value: callers are told so.
    Missing,
    /// Within its life: served as it is.
    Fresh,
    /// Expired, but within `stale_while_revalidate`: served at once, while one caller reloads it.
    Revalidate,
    /// Past that too, but within `stale_if_error`: callers wait for a load, and get this value if it fails.
    ErrorOnly,
}

/// When something ends, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// In this long; [`Duration::MAX`] means never.
    In(Duration),
    /// This long ago.
    Ago(Duration),
}

/// The failed loads of a key, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Failing {
    /// How many have failed in a row.
    pub in_a_row: u32,
    /// How long ago the last one failed.
    pub ago: Duration,
    /// In how long a call for the key asks the source again: see `error_backoff`. Zero means at the next
    /// call.
    pub next_try: Duration,
}

/// A load that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Underway {
    /// How long ago it began, or was queued.
    pub age: Duration,
    /// How many callers wait for it, besides the one who loads.
    pub waiters: usize,
    /// In how long it loses the key, at `load_timeout`; `None` while it is queued for a slot or for its
    /// runtime, since that time does not count.
    pub gives_up_in: Option<Duration>,
}

/// The state of a [`circuit_breaker`](crate::CacheBuilder::circuit_breaker).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Loads go through.
    Closed {
        /// How many have failed in a row, over all keys.
        failures: u32,
    },
    /// The source is left alone.
    Open {
        /// In how long a load goes through again, as a probe; zero means the next one.
        probe_in: Duration,
    },
    /// A load is finding out whether the source is back.
    Probing,
}

/// How many slots of [`max_concurrent_loads`](crate::CacheBuilder::max_concurrent_loads) are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SlotsUsed {
    /// How many slots there are.
    pub limit: usize,
    /// How many loads have a slot. A load that others wait for from inside their own loads may go beyond the
    /// limit.
    pub running: usize,
    /// How many loads are queued for a slot.
    pub waiting: usize,
}

impl Explanation {
    /// What the next caller gets if nothing is cached and it will not load.
    fn instead_of_a_load(&self) -> Option<&'static str> {
        if self.standing != Standing::Absent {
            None
        } else if self.is_unwritten {
            Some("callers get the change that waits to be written")
        } else if self.load.is_some() {
            Some("callers wait for the load in flight")
        } else if self.failure.is_some_and(|failure| !failure.next_try.is_zero()) {
            Some("callers get the last error, and nobody loads")
        } else {
            self.is_cut_off().then_some("callers get `CircuitOpen`")
        }
    }

    /// Why a value within `stale_if_error` is served at once, without a load.
    fn served_at_once(&self) -> Option<&'static str> {
        if self.standing != Standing::ErrorOnly || self.load.is_some() {
            None
        } else if self.failure.is_some_and(|failure| !failure.next_try.is_zero()) {
            Some("because the last load failed")
        } else {
            self.is_cut_off().then_some("because the circuit breaker is open")
        }
    }

    /// Whether the circuit breaker keeps the next caller from loading.
    fn is_cut_off(&self) -> bool {
        match self.breaker {
            Some(BreakerState::Open { probe_in }) => !probe_in.is_zero(),
            Some(BreakerState::Probing) => true,
            Some(BreakerState::Closed { .. }) | None => false,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.instead_of_a_load(), self.served_at_once()) {
            (Some(instead), _) => write!(f, "not cached: {instead}")?,
            (_, Some(why)) => write!(f, "expired: served stale at once, {why}")?,
            (None, None) => write!(f, "{}", self.standing)?,
        }
        if let Some(age) = self.age {
            write!(f, "\nage: {}", Length(age))?;
            let windows = [
                (self.fresh, "fresh", "fresh"),
                (self.revalidate, "served while it reloads", "was served while it reloads"),
                (self.error_only, "served if loads fail", "was served if loads fail"),
            ];
            for (end, what, once) in windows {
                match end {
                    Some(End::In(Duration::MAX)) => write!(f, "; {what} for ever")?,
                    Some(End::In(left)) => write!(f, "; {what} for another {}", Length(left))?,
                    Some(End::Ago(ago)) => write!(f, "; {once} until {} ago", Length(ago))?,
                    None => {}
                }
            }
        }
        if let Some(validator) = &self.validator {
            write!(f, "\nvalidator: {validator:?}")?;
        }
        if let Some(Failing { in_a_row, ago, next_try }) = self.failure {
            let ago = Length(ago);
            write!(f, "\nloads: the last one failed {ago} ago, {in_a_row} in a row; next try ")?;
            let is_cut_off = self.is_cut_off() && next_try.is_zero();
            in_or(
                f,
                next_try,
                if is_cut_off { "when the circuit breaker allows it" } else { "at the next call" },
            )?;
        }
        if let Some(Underway { age, waiters, gives_up_in }) = self.load {
            let (age, s) = (Length(age), if waiters == 1 { "" } else { "s" });
            match gives_up_in {
                Some(left) => {
                    write!(f, "\nload in flight: for {age}, times out ")?;
                    in_or(f, left, "now")?;
                }
                None => write!(f, "\nload in flight: queued for {age}")?,
            }
            write!(f, "; {waiters} caller{s} wait{} for it", if waiters == 1 { "s" } else { "" })?;
        }
        if self.is_unwritten {
            write!(f, "\nwrite-behind: a change waits to be written")?;
        }
        if self.is_fenced {
            write!(f, "\nwrite in progress: what is loaded meanwhile is not stored")?;
        }
        if let Some(TierState { is_asked, pending }) = self.tier {
            let asked = if is_asked {
                "asked before the source"
            } else {
                "not asked, because a change has not reached it yet"
            };
            let s = if pending == 1 { "" } else { "s" };
            write!(f, "\nsecond tier: {asked}; {pending} change{s} on the way to it")?;
        }
        match self.breaker {
            Some(BreakerState::Closed { failures }) => {
                let s = if failures == 1 { "" } else { "s" };
                write!(f, "\ncircuit breaker: closed, {failures} failure{s} in a row")?;
            }
            Some(BreakerState::Open { probe_in }) => {
                write!(f, "\ncircuit breaker: open, next probe ")?;
                in_or(f, probe_in, "at the next call")?;
            }
            Some(BreakerState::Probing) => {
                write!(f, "\ncircuit breaker: half-open, one load probes the source")?;
            }
            None => {}
        }
        if let Some(SlotsUsed { limit, running, waiting }) = self.slots {
            write!(f, "\nconcurrent loads: {running} of {limit}, {waiting} queued")?;
        }
        Ok(())
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "not cached: the next caller loads",
            Self::Missing => "cached as \"not found\"",
            Self::Fresh => "fresh",
            Self::Revalidate => "expired: served stale at once, while one caller reloads it",
            Self::ErrorOnly => {
                "expired: callers wait for a load, and get the stale value if it fails"
            }
        })
    }
}

fn in_or(f: &mut fmt::Formatter<'_>, left: Duration, now: &str) -> fmt::Result {
    match left {
        Duration::ZERO => f.write_str(now),
        Duration::MAX => f.write_str("never"),
        left => write!(f, "in {}", Length(left)),
    }
}

/// Formats a duration with one fitting unit.
struct Length(Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Duration::ZERO => f.write_str("0ms"),
            Duration::MAX => f.write_str("ever"),
            length => write!(f, "{length:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_absent_key_there_is_one_line() {
        assert_eq!(Explanation::default().to_string(), "not cached: the next caller loads");
    }

    #[test]
    fn who_finds_nothing_does_not_always_load() {
        let first_line = |told: &Explanation| told.to_string().lines().next().map(str::to_owned);
        let of = |change: fn(&mut Explanation)| {
            let mut told = Explanation::default();
            change(&mut told);
            first_line(&told).unwrap_or_default()
        };
        let second = Duration::from_secs(1);
        let failing = |next_try| Failing { in_a_row: 1, ago: Duration::ZERO, next_try };
        let loading = of(|told| {
            told.load = Some(Underway { age: Duration::ZERO, waiters: 0, gives_up_in: None });
        });
        assert_eq!(loading, "not cached: callers wait for the load in flight");
        let unwritten = of(|told| told.is_unwritten = true);
        assert_eq!(unwritten, "not cached: callers get the change that waits to be written");
        let open = of(|told| {
            told.breaker = Some(BreakerState::Open { probe_in: Duration::from_secs(1) });
        });
        assert_eq!(open, "not cached: callers get `CircuitOpen`");
        for (next_try, line) in [
            (second, "not cached: callers get the last error, and nobody loads"),
            (Duration::ZERO, "not cached: the next caller loads"),
        ] {
            let told = Explanation { failure: Some(failing(next_try)), ..Explanation::default() };
            assert_eq!(first_line(&told).as_deref(), Some(line));
        }
    }

    #[test]
    fn everything_at_once() {
        let second = Duration::from_secs;
        let all = Explanation {
            standing: Standing::Revalidate,
            age: Some(second(61)),
            fresh: Some(End::Ago(second(1))),
            revalidate: Some(End::In(second(29))),
            error_only: Some(End::In(Duration::MAX)),
            validator: Some("v7".into()),
            failure: Some(Failing { in_a_row: 3, ago: second(1), next_try: Duration::ZERO }),
            load: Some(Underway { age: second(2), waiters: 1, gives_up_in: None }),
            is_fenced: true,
            is_unwritten: true,
            tier: Some(TierState { is_asked: false, pending: 3 }),
            breaker: Some(BreakerState::Open { probe_in: Duration::from_millis(1_500) }),
            slots: Some(SlotsUsed { limit: 8, running: 8, waiting: 120 }),
        };
        let told = "expired: served stale at once, while one caller reloads it\n\
            age: 61s; fresh until 1s ago; served while it reloads for another 29s; \
            served if loads fail for ever\n\
            validator: \"v7\"\n\
            loads: the last one failed 1s ago, 3 in a row; next try when the circuit breaker allows it\n\
            load in flight: queued for 2s; 1 caller waits for it\n\
            write-behind: a change waits to be written\n\
            write in progress: what is loaded meanwhile is not stored\n\
            second tier: not asked, because a change has not reached it yet; 3 changes on the way to it\n\
            circuit breaker: open, next probe in 1.5s\n\
            concurrent loads: 8 of 8, 120 queued";
        assert_eq!(all.to_string(), told);
    }
}
