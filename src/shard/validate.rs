//! Checks everything that must hold for a shard between two calls. For tests and fuzzing.

use super::Shard;
use super::entry::Terms;
use crate::parts::eviction::Policy;
use crate::parts::weights::Weights;

/// What a shard holds, to be added up and compared with the budget.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) units: u64,
}

impl<K: Eq, V> Shard<K, V> {
    /// Panics if an invariant does not hold.
    pub(crate) fn validate(&self, terms: &Terms<'_>) -> Totals {
        self.table.validate();
        self.validate_growth();
        self.policy.validate(&self.table);
        self.board.validate();
        self.failures.validate();
        let mut held = Totals::default();
        let (mut missing, mut notes, mut tagged) = (0, 0, 0);
        for g in 0..self.table.groups() {
            for id in self.table.live_in(g) {
                held.entries += 1;
                held.units += self.aside.units(id);
                notes += usize::from(self.aside.notes(id).is_some());
                let has_tags = self.aside.notes(id).is_some_and(|notes| notes.tags.is_some());
                assert_eq!(has_tags, self.table.has_tags(id), "a mark that tells of no tags");
                tagged += usize::from(has_tags);
                let key = if let Some(entry) = self.table.entry(id) {
                    &entry.key
                } else {
                    missing += 1;
                    &self.aside.missing(id).expect("a live slot stands for nothing").key
                };
                let end = self.expires(id, terms);
                // the end of one with tags may be earlier: that of a tag
                let is_expected = has_tags || end.is_none_or(|end| self.sweep.earliest <= end);
                assert!(is_expected, "an entry ends before anything does");
                let found = self.locate(self.table.hash_of(id), key);
                assert_eq!(found, Some(id), "a key stands twice, or where nobody finds it");
            }
        }
        let weights = self.aside.weights().map_or(held.units, Weights::sum);
        assert_eq!(weights, held.units, "what the entries weigh");
        assert_eq!(missing, self.aside.missing_len(), "a cached \"not found\" without a slot");
        assert_eq!(tagged, self.tagged, "entries with tags");
        assert_eq!(notes, self.aside.notes_len(), "notes without an entry");
        held
    }
}
