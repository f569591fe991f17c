//! News from the second tier: applying here what other processes changed.

use super::Told;
use crate::engine::store::{Store, spread};
use crate::engine::unreported::Unreported;
use crate::parts::group::Hash;
use crate::rules::event::Event;
use crate::rules::tier::{News, TierError, TierWatcher, Watch};
use crate::shard::outbox::Outbox;
use crate::words::sync::atomic::Ordering;
use crate::words::sync::thread_local;
use crate::words::tier_key::{ByName, TierKey};
use std::any::TypeId;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash as StdHash};
use std::sync::{Arc, Weak};

thread_local! {
    /// Whether this thread is delivering a tier's news. It may be the very thread that has to answer for the
    /// tier, so user code that runs on it meanwhile must not wait for the tier.
    // no `const` block: the explorers' macro does not have one
    #[allow(clippy::missing_const_for_thread_local)]
    static MUST_NOT_WAIT: Cell<bool> = Cell::new(false);
}

pub(super) fn must_not_wait() -> bool {
    MUST_NOT_WAIT.with(Cell::get)
}

/// Runs `work` as if it were done for news of the tier: nothing in it waits for the tier.
#[cfg_attr(larder_loom, allow(dead_code, reason = "its models have no thread that tells a tier"))]
pub(crate) fn without_waiting<R>(work: impl FnOnce() -> R) -> R {
    let _not_waiting = NotWaiting(MUST_NOT_WAIT.with(|brings| brings.replace(true)));
    work()
}

/// While it lives, its thread counts as delivering news. Its drop restores the state before, even after a
/// panic of user code.
struct NotWaiting(bool);

impl Drop for NotWaiting {
    fn drop(&mut self) {
        MUST_NOT_WAIT.with(|brings| brings.set(self.0));
    }
}

/// Receives the tier's news for a store.
struct NewsWatcher<K, V, S>(Weak<Store<K, V, S>>);

impl<K, V, S> Watch for NewsWatcher<K, V, S>
where
    K: StdHash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    fn told(&self, news: News<'_>) -> bool {
        // outlives the store, whose last handle may be dropped here
        let _not_waiting = NotWaiting(MUST_NOT_WAIT.with(|brings| brings.replace(true)));
        let store = self.0.upgrade();
        if let Some(store) = &store {
            store.hear(news);
        }
        store.is_some()
    }

    fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl<K, V, S> Store<K, V, S>
where
    K: StdHash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Has the tier deliver its news here from now on.
    pub(crate) fn listen(self: &Arc<Self>) -> Result<(), TierError> {
        match &self.tier {
            Some(tier) => {
                tier.tier.watch(TierWatcher::new(Arc::new(NewsWatcher(Arc::downgrade(self)))))
            }
            None => Ok(()),
        }
    }

    /// Applies a change of another process to this cache, without telling the tier.
    fn hear(&self, news: News<'_>) {
        let Some(tier) = &self.tier else { return };
        match news {
            News::Skipped(error) => return self.note_skipped(error),
            News::Changed(name) => {
                for hash in self.hashes_of(name) {
                    self.change_here(hash, name);
                }
            }
            News::Expired(name) => {
                for hash in self.hashes_of(name) {
                    self.expire_here(hash, name);
                }
            }
            News::TagRemoved(tag) => {
                // first here, as where it is done here: see `tell_of_write`
                self.remove_tag_here(tag);
                tier.overtake(Some(tag));
            }
            News::TagExpired(tag) => {
                self.expire_tag_here(tag);
                tier.overtake(Some(tag));
            }
            News::Cleared => {
                tier.overtake(None);
                self.clear_here();
            }
            News::Missed => {
                // others may have written the keys of changes that wait here
                tier.overtake(None);
                tier.doubted.fetch_max(self.clock.now(), Ordering::Relaxed);
                self.doubt_all_here();
            }
        }
        // counted last: whoever sees the count also sees the effect
        tier.counts.heard.add(1);
    }

    /// Removes every key of this name: several keys may have it.
    fn change_here(&self, hash: u64, name: &TierKey) {
        let mut out = Outbox::new();
        let _told;
        // what has gone is reported even if the `Hash` of the next key panics
        let unreported = Unreported { store: self, out: &mut out };
        {
            let mut shard = self.cell(hash).shard.write();
            _told = self.overtaken(name);
            self.ledger.note(hash);
            shard.fence_each(hash, &ByName(name), unreported.out);
            shard.remove_each(Hash::new(hash), &ByName(name), &self.terms(), unreported.out);
        }
        drop(unreported);
        self.deliver(out);
    }

    /// The same for an expiry: the entries are not fresh any more, but not gone.
    fn expire_here(&self, hash: u64, name: &TierKey) {
        let mut out = Outbox::new();
        let _told;
        let expired = {
            let mut shard = self.cell(hash).shard.write();
            _told = self.overtaken(name);
            self.ledger.note(hash);
            shard.fence_each(hash, &ByName(name), &mut out);
            shard.expire_each(Hash::new(hash), &ByName(name), &self.terms(), &mut out)
        };
        self.deliver(out);
        if expired {
            self.request_sweep();
        }
    }
}

impl<K, V, S> Store<K, V, S> {
    /// Another process has changed the entry of this name. A value that was written here and is still on its way
    /// there would replace theirs, and may be older: the tier is told of a removal after it. To be called with
    /// the lock of the key's shard held; the returned value is to be dropped after the lock.
    fn overtaken(&self, name: &TierKey) -> Option<Told<K, V>> {
        let is_writing = self.tier.as_ref().is_some_and(|tier| tier.outgoing.is_writing(name));
        is_writing.then(|| self.tell_removal(Some(name))).flatten()
    }

    /// Counts an entry that the tier left out, and emits an event each time the count has doubled: a tier that
    /// leaves out one entry may leave out all of them.
    fn note_skipped(&self, error: &TierError) {
        let Some(tier) = &self.tier else { return };
        let counter = match error {
            TierError::Unreadable(_) => &tier.counts.unread,
            _ => &tier.counts.unwritten,
        };
        let entries = counter.next();
        if entries.is_power_of_two() {
            self.emit(Event::TierSkipped { entries, error });
        }
    }

    /// The hashes that keys of this name may have.
    fn hashes_of(&self, name: &TierKey) -> impl Iterator<Item = u64> + use<K, V, S>
    where
        S: BuildHasher + 'static,
    {
        let is_good = TypeId::of::<S>() == TypeId::of::<ahash::RandomState>();
        let hashes = name.hashes_by(self.hasher());
        hashes.map(move |hash| if is_good { hash } else { spread(hash) })
    }
}
