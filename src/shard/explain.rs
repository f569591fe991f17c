//! Explains the state of one key of a shard.

use super::Shard;
use super::entry::Terms;
use crate::parts::flight::Flight;
use crate::parts::group::Hash;
use crate::rules::expiry::{Age, NEVER, duration};
use crate::rules::explain::{End, Explanation, Failing, Standing};
use crate::words::tick::Tick;
use equivalent::Equivalent;
use std::sync::Arc;
use std::time::Duration;

impl<K, V> Shard<K, V> {
    /// Explains the key, and returns its flight, of which more can be told outside of the lock. Changes
    /// nothing: shared lock.
    pub(crate) fn explain<Q>(
        &self,
        hash: u64,
        key: &Q,
        terms: &Terms<'_>,
    ) -> (Explanation, Option<Arc<Flight<K, V>>>)
    where
        Q: ?Sized + Equivalent<K>,
    {
        let mut told = Explanation::default();
        let id = self.locate(Hash::new(hash), key).filter(|&id| !self.is_gone(id, terms));
        let stamp = id.and_then(|id| match self.table.entry(id) {
            Some(entry) => Some(entry.stamp),
            None => Some(self.aside.missing(id)?.stamp),
        });
        if let Some(stamp) = stamp {
            told.standing = Standing::Missing;
            told.age = Some(duration(stamp.age(terms.now)));
            told.fresh = id.map(|id| end(stamp.expiry().min(self.cut(id)), terms.now));
        }
        if let Some((id, entry)) = id.and_then(|id| Some((id, self.table.entry(id)?))) {
            told.standing = match self.age(id, entry, terms) {
                Age::Fresh => Standing::Fresh,
                Age::Revalidate => Standing::Revalidate,
                Age::ErrorOnly => Standing::ErrorOnly,
                Age::Gone => Standing::Absent,
            };
            let windows = terms.lives.windows;
            let expiry = entry.stamp.expiry().min(self.cut(id));
            let own = self.expiry(id, entry, terms.lives);
            told.fresh = Some(end(own, terms.now));
            // what ends by not being used has no windows, and neither has what does not end
            if own == expiry && expiry < NEVER {
                let window = |ticks: u64| Some(end(expiry + ticks, terms.now));
                told.revalidate = window(windows.revalidate).filter(|_| windows.revalidate > 0);
                let has_own = windows.on_error > windows.revalidate;
                told.error_only = window(windows.on_error).filter(|_| has_own);
            }
            told.validator = self.aside.notes(id).and_then(|notes| notes.validator.clone());
        }
        let is_stale = matches!(told.standing, Standing::Revalidate | Standing::ErrorOnly);
        told.failure = self.failures.get(hash, key).map(|failure| {
            // only a key with an answer to serve meanwhile, or a refresh, is held back
            let refreshes = told.standing == Standing::Fresh && !terms.lives.ahead.is_never();
            let holds = is_stale || refreshes || failure.landing().is_some();
            let until = if holds { failure.until } else { 0 };
            Failing {
                in_a_row: failure.in_a_row,
                ago: duration(terms.now.saturating_sub(failure.at)),
                next_try: duration(until.saturating_sub(terms.now)),
            }
        });
        told.is_fenced = self.fences.holds(hash, key);
        (told, self.board.get(hash, key).map(Arc::clone))
    }
}

fn end(at: Tick, now: Tick) -> End {
    match at.checked_sub(now) {
        // clocks do not get that far
        _ if at >= NEVER => End::In(Duration::MAX),
        Some(left) if left > 0 => End::In(duration(left)),
        _ => End::Ago(duration(now.saturating_sub(at))),
    }
}
