//! Walking a shard in the order of hashes.
//!
//! The order does not depend on the size of the table, so a walk that releases the lock between two steps
//! goes on where it was, even if the table grew meanwhile: no entry that stayed is skipped, and none comes
//! twice.

use super::Shard;
use super::entry::{Entry, Terms};
use crate::parts::eviction::SlotId;
use crate::parts::group::Hash;

/// One past the last hash that a table can have.
const END: u64 = 1 << 24;

/// One step ends after at least this many entries, or this many groups, whichever comes first.
const ENTRIES: usize = 16;
const GROUPS: usize = 64;

/// Where a walk goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(u64);

impl Cursor {
    pub(crate) fn is_done(self) -> bool {
        self.0 >= END
    }
}

impl<K, V> Shard<K, V> {
    /// Visits the values of the next few home groups: the fresh ones, and with `keeps_stale` also those
    /// within a window.
    pub(crate) fn walk(
        &self,
        cursor: &mut Cursor,
        terms: &Terms<'_>,
        keeps_stale: bool,
        mut visit: impl FnMut(SlotId, &Entry<K, V>, Hash),
    ) {
        let n = self.table.groups();
        if n == 0 {
            cursor.0 = END;
            return;
        }
        let mut visited = 0;
        for _ in 0..GROUPS {
            if cursor.is_done() || visited >= ENTRIES {
                return;
            }
            let home = ((cursor.0 * n as u64) >> 24) as usize;
            // the first hash whose home is the next group
            let end = ((home as u64 + 1) << 24).div_ceil(n as u64);
            let range = cursor.0..end;
            let mut g = home;
            for _ in 0..n {
                for id in self.table.live_in(g) {
                    let hash = self.table.hash_of(id);
                    if !range.contains(&u64::from(hash.bits())) {
                        continue;
                    }
                    let Some(entry) = self.table.entry(id) else { continue };
                    let end = if keeps_stale {
                        self.end(id, entry, terms.lives)
                    } else {
                        self.expiry(id, entry, terms.lives)
                    };
                    if terms.now < end {
                        visit(id, entry, hash);
                        visited += 1;
                    }
                }
                if !self.table.overflows(g) {
                    break;
                }
                g = self.table.next(g);
            }
            cursor.0 = end;
        }
    }
}
