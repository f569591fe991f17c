//! Counting, and the figures that users are shown.

use super::store::Store;
use crate::rules::stats::Stats;
use crate::words::sync::Counter;
use std::time::Duration;

/// Counts of events that are rare enough to share a cache line.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) load_failures: Counter,
    pub(super) load_timeouts: Counter,
    pub(super) abandoned: Counter,
    pub(super) load_millis: Counter,
    pub(super) overloaded: Counter,
    pub(super) circuit_open: Counter,
    pub(super) joined: Counter,
    pub(super) fenced: Counter,
    pub(super) unchanged: Counter,
    pub(super) refreshes: Counter,
    pub(super) refused: Counter,
    pub(super) changed: Counter,
    pub(super) listener_panics: Counter,
}

impl<K, V, S> Store<K, V, S> {
    pub(crate) fn stats(&self) -> Stats {
        let [hits, misses, stale_hits] = self.lookups.sum();
        let mut stats = Stats {
            hits,
            misses,
            stale_hits,
            loads: self.lookups.loads(),
            load_failures: self.counts.load_failures.get(),
            load_timeouts: self.counts.load_timeouts.get(),
            abandoned: self.counts.abandoned.get(),
            overloaded: self.counts.overloaded.get(),
            circuit_open: self.counts.circuit_open.get(),
            joined: self.counts.joined.get(),
            fenced: self.counts.fenced.get(),
            unchanged: self.counts.unchanged.get(),
            refreshes: self.counts.refreshes.get(),
            refused: self.counts.refused.get(),
            changed: self.counts.changed.get(),
            listener_panics: self.counts.listener_panics.get()
                + self.handlers.events.as_ref().map_or(0, |notifier| notifier.panics()),
            load_time: Duration::from_millis(self.counts.load_millis.get()),
            ..Stats::default()
        };
        if let Some(tier) = &self.tier {
            tier.add_to(&mut stats);
        }
        for cell in &self.cells {
            let tally = cell.shard.read().tally();
            stats.insertions += tally.insertions;
            stats.replaced += tally.replaced;
            stats.removed += tally.removed;
            stats.expired += tally.expired;
            stats.evicted += tally.evicted;
            stats.rejected += tally.rejected;
        }
        stats
    }
}
