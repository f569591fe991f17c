//! The state that the handles of a tier share with its thread: whether the server can be asked, the caches to
//! tell of news, and the counters.

use super::chance::Chance;
use super::names::{Names, Word};
use super::stats::Counters;
use super::trial::Trials;
use crate::rules::tier::{TierError, TierWatcher};
use crate::words::contain::contain;
use crate::words::tier_key::TierKey;
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;
use tokio::sync::Notify;

/// The builder's settings.
pub(super) struct Settings {
    pub(super) names: Names,
    /// Host and port, without credentials.
    pub(super) server: Box<str>,
    /// The tier's own time to live in milliseconds, if it is set.
    pub(super) time_to_live: Option<u64>,
    pub(super) tombstone: u64,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) lease: Option<Duration>,
    pub(super) max_value_size: usize,
}

/// The life of a value that never expires in its cache, an hour, and the longest life, a year; in milliseconds.
const USUAL: u64 = 3_600_000;
const LONGEST: u64 = 365 * 86_400_000;

/// After how many timeouts in a row the server counts as slow.
const STREAK: u32 = 3;

const UNREADABLE: &str = "data under one of its keys is damaged, foreign, or of another codec or type; raise \
                          the version in `prefix` whenever types or codec change";

/// Whether the server can be asked.
enum Availability {
    Open,
    /// Connected, but too slow. It is asked again when it has answered a ping in time.
    Slow,
    /// Not connected, for this reason.
    Away(Arc<str>),
}

struct State {
    availability: Availability,
    /// How many requests in a row have timed out.
    late: u32,
    /// Something was received since this was last checked.
    is_heard: bool,
}

pub(super) struct Hub {
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    pub(super) trials: Trials,
    pub(super) chance: Chance,
    /// Identifies news that this handle sent itself.
    origin: Box<str>,
    state: Mutex<State>,
    watchers: Mutex<Vec<TierWatcher>>,
    /// The tier's own thread.
    thread: OnceLock<ThreadId>,
    /// Wakes the task that checks whether the server still answers.
    pub(super) doubt: Notify,
    /// The longest stale window of any entry that was written or read, in milliseconds.
    longest_stale: AtomicU64,
    /// The longest life of any entry that was written, in milliseconds.
    longest: AtomicU64,
}

impl Hub {
    pub(super) fn new(settings: Settings) -> Self {
        let chance = Chance::new();
        let origin = format!("{:016x}{:016x}", chance.number(), chance.number()).into();
        let state = State {
            availability: Availability::Away("not connected yet".into()),
            late: 0,
            is_heard: false,
        };
        Self {
            settings,
            counters: Counters::default(),
            trials: Trials::default(),
            chance,
            origin,
            state: Mutex::new(state),
            watchers: Mutex::default(),
            thread: OnceLock::new(),
            doubt: Notify::new(),
            longest_stale: AtomicU64::new(0),
            longest: AtomicU64::new(USUAL),
        }
    }

    pub(super) fn set_thread(&self) {
        _ = self.thread.set(thread::current().id());
    }

    /// Whether a request may be sent.
    pub(super) fn admit(&self) -> Result<(), TierError> {
        if self.thread.get() == Some(&thread::current().id()) {
            // it would wait for itself
            let why = "it is asked from the thread that brings its news";
            return Err(TierError::Unreachable(why.into()));
        }
        self.admit_from_thread()
    }

    /// The same for the tier's own thread.
    pub(super) fn admit_from_thread(&self) -> Result<(), TierError> {
        match &self.state.lock().availability {
            Availability::Open => Ok(()),
            Availability::Slow => Err(TierError::TimedOut),
            Availability::Away(why) => Err(TierError::Unreachable(Arc::clone(why))),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        !matches!(self.state.lock().availability, Availability::Away(_))
    }

    pub(super) fn is_slow(&self) -> bool {
        matches!(self.state.lock().availability, Availability::Slow)
    }

    pub(super) fn open(&self) {
        *self.state.lock() = State { availability: Availability::Open, late: 0, is_heard: true };
    }

    pub(super) fn close(&self, why: &Arc<str>) {
        self.state.lock().availability = Availability::Away(Arc::clone(why));
    }

    pub(super) fn answered(&self) {
        let mut state = self.state.lock();
        state.late = 0;
        state.is_heard = true;
    }

    pub(super) fn ran_late(&self) {
        self.counters.timeouts.add(1);
        let mut state = self.state.lock();
        state.late = state.late.saturating_add(1);
        if state.late >= STREAK && matches!(state.availability, Availability::Open) {
            state.availability = Availability::Slow;
            self.doubt.notify_one();
        }
    }

    /// Whether anything was received since the last call.
    pub(super) fn was_heard(&self) -> bool {
        std::mem::take(&mut self.state.lock().is_heard)
    }

    pub(super) fn saw_stale_for(&self, time: u64) {
        self.longest_stale.fetch_max(time, Ordering::Relaxed);
    }

    /// The life on the server, in milliseconds, of an entry of this age that lives for so long in its cache.
    pub(super) fn life(&self, in_cache: u64, age: u64) -> u64 {
        let own = self.settings.time_to_live.map(|own| own.saturating_sub(age));
        let life = own.unwrap_or(match in_cache {
            u64::MAX => USUAL,
            life => life.min(LONGEST),
        });
        self.longest.fetch_max(life, Ordering::Relaxed);
        life
    }

    /// The longest time for which anything stays on the server, in milliseconds.
    pub(super) fn longest_life(&self) -> u64 {
        let tail = self.longest_stale.load(Ordering::Relaxed).max(self.settings.tombstone);
        let life = self.settings.time_to_live.unwrap_or(self.longest.load(Ordering::Relaxed));
        life.saturating_add(tail)
    }

    pub(super) fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        let mut watchers = self.watchers.lock();
        if watchers.iter().any(TierWatcher::is_alive) {
            let why = "two caches on one connection would not hear of each other: connect for each";
            return Err(TierError::Invalid(why.into()));
        }
        watchers.push(watcher);
        Ok(())
    }

    pub(super) fn word(&self, word: Word<'_>) -> String {
        self.settings.names.word(&self.origin, word)
    }

    /// Handles a push message of the server.
    pub(super) fn push(&self, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        match push.data.first() {
            Some(Value::Array(names)) => {
                for name in names {
                    if let Value::BulkString(name) = name {
                        self.changed(name);
                    }
                }
            }
            // no names: the server was emptied
            Some(Value::Nil) => {
                self.counters.heard.add(1);
                self.tell(TierWatcher::cleared);
            }
            _ => {}
        }
    }

    fn changed(&self, name: &[u8]) {
        let Some(heard) = self.settings.names.read(&self.origin, name) else { return };
        self.counters.heard.add(1);
        match heard {
            Word::Changed(name) => {
                let key = TierKey::from_name(name);
                self.tell(|watcher| watcher.changed(&key));
            }
            Word::TagRemoved(tag) => self.tell(|watcher| watcher.tag_removed(tag)),
            Word::TagExpired(tag) => self.tell(|watcher| watcher.tag_expired(tag)),
            Word::Cleared => self.tell(TierWatcher::cleared),
        }
    }

    /// Tells all caches of an entry that was left out.
    pub(super) fn skip(&self, error: &TierError) {
        self.tell(|watcher| watcher.skipped(error));
    }

    /// The data under a key is not an entry that this tier can read.
    pub(super) fn is_unreadable(&self) {
        self.counters.invalid_frames.add(1);
        self.skip(&TierError::Unreadable(UNREADABLE.into()));
    }

    /// Tells all caches, and removes those that are gone.
    pub(super) fn tell(&self, say: impl Fn(&TierWatcher) -> bool) {
        // no lock is held during the calls: user code in them may build a cache on this tier
        let mut watchers = self.watchers.lock().clone();
        watchers.retain(|watcher| {
            let mut is_there = true;
            contain(|| is_there = say(watcher));
            !is_there
        });
        if !watchers.is_empty() {
            // by identity, not by index: another thread may be removing the same ones
            self.watchers.lock().retain(|watcher| !watchers.iter().any(|gone| gone.is(watcher)));
        }
        // this may drop the last handle to a cache, which must not happen under the lock
        drop(watchers);
    }
}
