//! The builder's settings, and their defaults.

use crate::engine::handlers::Listener;
use crate::engine::store::Weigher;
use crate::engine::tier::StoreTier;
use crate::parts::notifier::Notifier;
use crate::rules::ahead::RefreshAhead;
use crate::rules::counted::CountedErrors;
use crate::words::clock::Clock;
use crate::words::runtime::Runtime;
use std::sync::Arc;
use std::time::Duration;

/// The default `load_timeout`: longer than a load from any source that works, and short enough to notice a hung
/// one soon.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// All settings but the hasher, whose type is a parameter of the builder.
pub(super) struct Settings<K, V> {
    pub(super) max_entries: Option<u64>,
    pub(super) max_weight: Option<u64>,
    pub(super) unbounded: bool,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) listener: Option<Listener<K, V>>,
    pub(super) notifier: Option<Arc<Notifier<K>>>,
    pub(super) ttl: Option<Duration>,
    pub(super) jitter: Option<f64>,
    pub(super) idle: Option<Duration>,
    pub(super) negative: Duration,
    pub(super) revalidate: Duration,
    pub(super) on_error: Duration,
    pub(super) back_off: Option<(Duration, Duration)>,
    pub(super) load_timeout: Duration,
    pub(super) max_loads: Option<usize>,
    pub(super) breaker: Option<(u32, Duration)>,
    pub(super) counted: CountedErrors,
    pub(super) soft_timeout: Option<Duration>,
    pub(super) detached_loads: bool,
    pub(super) refresh_ahead: RefreshAhead,
    pub(super) runtime: Option<Arc<dyn Runtime>>,
    pub(super) batch: Option<(usize, Duration)>,
    pub(super) shards: Option<usize>,
    pub(super) clock: Option<Clock>,
    pub(super) seed: Option<u64>,
    pub(super) name: Option<Arc<str>>,
    pub(super) tier: Option<StoreTier<K, V>>,
}

impl<K, V> Default for Settings<K, V> {
    fn default() -> Self {
        Self {
            max_entries: None,
            max_weight: None,
            unbounded: false,
            weigher: None,
            listener: None,
            notifier: None,
            ttl: None,
            jitter: None,
            idle: None,
            negative: Duration::ZERO,
            revalidate: Duration::ZERO,
            on_error: Duration::ZERO,
            back_off: None,
            load_timeout: LOAD_TIMEOUT,
            max_loads: None,
            breaker: None,
            counted: CountedErrors::default(),
            soft_timeout: None,
            detached_loads: false,
            refresh_ahead: RefreshAhead::Never,
            runtime: None,
            batch: None,
            shards: None,
            clock: None,
            seed: None,
            name: None,
            tier: None,
        }
    }
}
