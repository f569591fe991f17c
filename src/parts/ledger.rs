//! Who is told of what happens to keys.
//!
//! Four kinds of calls let go of the lock for a while, and have to know afterwards what others did meanwhile.
//! Each has a record of its own kind:
//!
//! | who asks | what is recorded | how |
//! |---|---|---|
//! | a batch | [when a key was last written](super::moments) | a few places that all batches share |
//! | a restore | [which keys were written](super::written) | a large bit set for each |
//! | an `alter` | [whether anything happened to its key](super::reservation) | a reservation, by the whole hash |
//! | a `remove_if` | [which values kept the life of those before them](super::kept) | a set of whole hashes for each |
//!
//! What happens to a key is told here under the lock of its shard, and a record is asked for a key under that
//! lock too. A write that finds nobody watching began before whatever the watcher does next (look at the shard,
//! ask the source, read a snapshot); one that comes later is recorded.

use super::kept::KeptLives;
use super::moments::{Moment, Moments, Unasked};
use super::reservation::Reserved;
use super::watches::{Watch, Watches};
use super::written::Written;
use crate::words::sync::atomic::{AtomicUsize, Ordering};

#[derive(Default)]
pub(crate) struct Ledger {
    /// How many calls watch, but for those of `remove_if`: while none does, a write reads only this. (What a
    /// `remove_if` is told, only changes tell; so while one runs, which may be long, other writes pay nothing.)
    watchers: AtomicUsize,
    batches: Moments,
    restores: Watches<Written>,
    changes: Watches<Reserved>,
    removals: Watches<KeptLives>,
}

impl Ledger {
    /// A batch begins: writes are noted, each with a later moment than the one returned. To be ended by
    /// [`leave`](Self::leave).
    pub(crate) fn watch(&self) -> Moment {
        self.batches.prepare();
        // a write that does not see this yet began before whatever the watcher does next
        self.watchers.fetch_add(1, Ordering::SeqCst);
        self.batches.now()
    }

    /// A batch ends.
    pub(crate) fn leave(&self) {
        self.watchers.fetch_sub(1, Ordering::SeqCst);
    }

    /// A restore begins: it is noted for each key whether it is written.
    #[cfg_attr(not(feature = "snapshot"), allow(dead_code, reason = "snapshots watch"))]
    pub(crate) fn watch_keys(&self) -> Watch<'_, Written> {
        self.restores.add(Written::new(), Some(&self.watchers))
    }

    /// An `alter` begins: from now on every write to its key revokes the reservation.
    pub(crate) fn reserve(&self, hash: u64) -> Watch<'_, Reserved> {
        self.changes.add(Reserved::new(hash), Some(&self.watchers))
    }

    /// A `remove_if` begins: keys are noted whose value is changed and may keep its life.
    pub(crate) fn watch_kept_lives(&self) -> Watch<'_, KeptLives> {
        self.removals.add(KeptLives::new(), None)
    }

    #[inline]
    fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    /// Something happens to a key. To be called under its shard's lock, as
    /// [`is_quiet_for`](Self::is_quiet_for) is.
    #[inline]
    pub(crate) fn note(&self, hash: u64) {
        if self.is_watched() {
            self.tell(Some(hash));
        }
    }

    /// Something happens to every key.
    pub(crate) fn note_all(&self) {
        if self.is_watched() {
            self.tell(None);
        }
    }

    #[cold]
    fn tell(&self, hash: Option<u64>) {
        self.batches.note(hash);
        self.restores.each(|written| written.note(hash));
        self.changes.each(|reserved| reserved.lose(hash));
    }

    /// As [`note`](Self::note), for a change of the value that may have kept its life.
    pub(crate) fn note_change(&self, hash: u64) {
        self.note(hash);
        self.removals.each(|kept| kept.note(hash));
    }

    /// As [`note`](Self::note), for a value that a batch has stored unasked, which must not keep the batch's
    /// other values from being stored.
    pub(crate) fn note_unasked(&self, hash: u64, unasked: &Unasked) {
        self.batches.note_unasked(hash, unasked);
        self.restores.each(|written| written.note(Some(hash)));
        self.changes.each(|reserved| reserved.lose(Some(hash)));
    }

    /// For batches and restores only: the key's value is unchanged, so a reservation of it still holds.
    pub(crate) fn note_for_batches(&self, hash: u64) {
        if self.is_watched() {
            self.batches.note(Some(hash));
            self.restores.each(|written| written.note(Some(hash)));
        }
    }

    /// For changes only.
    pub(crate) fn note_for_changes(&self, hash: u64) {
        if self.is_watched() {
            self.changes.each(|reserved| reserved.lose(Some(hash)));
        }
    }

    /// Something has happened to a tag. The holder of a reservation notices that by itself, but has to be told
    /// whether its own thread did it.
    pub(crate) fn note_tag(&self) {
        if self.is_watched() {
            self.changes.each(Reserved::count_own_change);
        }
    }

    /// Whether nothing has happened to a key of this hash since that batch began, but for what the batch has
    /// stored itself.
    pub(crate) fn is_quiet_for(&self, hash: u64, unasked: &Unasked) -> bool {
        self.batches.is_quiet_for(hash, unasked)
    }
}

#[cfg(all(test, not(any(larder_loom, larder_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_is_known_and_what_was_before_is_not() {
        let ledger = Ledger::default();
        ledger.note(1 << 24);
        let since = Unasked::new(ledger.watch());
        assert!(ledger.is_quiet_for(1 << 24, &since));
        ledger.note(1 << 24);
        assert!(!ledger.is_quiet_for(1 << 24, &since));
        assert!(ledger.is_quiet_for(2 << 24, &since));
        let later = Unasked::new(ledger.watch());
        assert!(ledger.is_quiet_for(1 << 24, &later));
        ledger.note_all();
        assert!(!ledger.is_quiet_for(2 << 24, &later));
        ledger.leave();
        ledger.note(3 << 24);
        ledger.leave();
        ledger.note(4 << 24);
        assert!(!ledger.is_quiet_for(3 << 24, &later), "one of two watchers went");
        assert!(ledger.is_quiet_for(4 << 24, &Unasked::new(ledger.watch())));
    }

    #[test]
    fn restores_are_told_of_all_writes_but_those_of_restores() {
        let ledger = Ledger::default();
        let watch = ledger.watch_keys();
        let is_told = |note: fn(&Ledger, u64), hash| {
            note(&ledger, hash);
            watch.has(hash)
        };
        assert!(!is_told(Ledger::note_for_changes, 1 << 40));
        assert!(is_told(Ledger::note_change, 5 << 40));
        assert!(is_told(Ledger::note, 1 << 40));
        assert!(is_told(Ledger::note_for_batches, 2 << 40));
        let unasked = Unasked::new(ledger.watch());
        ledger.note_unasked(3 << 40, &unasked);
        assert!(watch.has(3 << 40) && !watch.has(4 << 40));
        ledger.note_all();
        assert!(watch.has(4 << 40));
        drop(watch);
        ledger.leave();
        assert_eq!(ledger.watchers.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn removals_are_told_of_changes_only() {
        let ledger = Ledger::default();
        let kept = ledger.watch_kept_lives();
        for note in [Ledger::note, Ledger::note_for_batches, Ledger::note_for_changes] {
            note(&ledger, 1);
        }
        ledger.note_all();
        ledger.note_change(2);
        assert_eq!([1, 2, 3].map(|hash| kept.has(hash)), [false, true, false]);
        assert!(!ledger.is_watched(), "other writes pay nothing for them");
    }

    #[test]
    fn what_a_batch_stores_unasked_is_news_to_others_and_not_to_itself() {
        let ledger = Ledger::default();
        let (one, other) = (Unasked::new(ledger.watch()), Unasked::new(ledger.watch()));
        let both = || [&one, &other].map(|unasked| ledger.is_quiet_for(1 << 24, unasked));
        assert_eq!(both(), [true, true]);
        ledger.note_unasked(1 << 24, &one);
        assert_eq!(both(), [true, false]);
        ledger.note_unasked(1 << 24, &one);
        assert_eq!(both(), [true, false]);
        ledger.note(1 << 24);
        assert_eq!(both(), [false, false]);
        ledger.note_unasked(1 << 24, &one);
        assert_eq!(both(), [false, false], "it has not taken in what came in between");
        assert!(ledger.is_quiet_for(2 << 24, &one));
        ledger.note_all();
        assert!(!ledger.is_quiet_for(2 << 24, &one));
    }
}
