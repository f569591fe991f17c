//! Heap bytes an entry, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::contender::{Contender, Kind, LARDER, entrants, select};
use policies::table::{Table, figure};

/// The system's allocator, which counts the bytes asked for once it is told to: throughput must
/// not pay for a counter that all threads share.
pub struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(bytes: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        LIVE.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to `System` as it came; counting touches two statics and
// never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: as above. The default would write the zeros, and so touch pages that the
        // system hands out zeroed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

const ENTRIES: u64 = 1_000_000;

/// Bytes an entry of larder, just filled and once it evicts.
pub struct Measured {
    pub table: Table,
    pub larder: Option<(f64, f64)>,
}

/// How many of the ids are there, for those that cannot say.
fn probe<K: Kind>(cache: &dyn Contender<K>, ids: u64) -> u64 {
    (0..ids).filter(|&id| cache.get(&K::key(id)).is_some()).count() as u64
}

/// Stores a million distinct keys in caches for a million, then two million more.
pub fn table<K: Kind>(only: &[String]) -> Result<Measured, String> {
    let names: Vec<&str> = entrants::<K>().iter().map(|e| e.name).collect();
    let contenders = select::<K>(only, &names)?;
    COUNTING.store(true, Ordering::Relaxed);
    let mut table =
        Table::new([K::NAME, "B/entry, filled", "resident", "B/entry, evicting", "resident"]);
    let mut larder = None;
    for contender in contenders {
        let before = LIVE.load(Ordering::Relaxed);
        let cache = (contender.build)(ENTRIES);
        let store = |ids: std::ops::Range<u64>| {
            let all = ids.end;
            for key in ids.map(K::key) {
                cache.insert(&key, K::value(&key));
            }
            cache.settle();
            let live = LIVE.load(Ordering::Relaxed) - before;
            let resident = cache.len().unwrap_or_else(|| probe(&*cache, all));
            (live as f64 / resident as f64, resident)
        };
        let (filled, at_first) = store(0..ENTRIES);
        let mut cells = vec![contender.name.to_owned(), figure(filled), at_first.to_string()];
        if contender.is_map() {
            cells.extend(["-".into(), "-".into()]);
        } else {
            let (evicting, at_last) = store(ENTRIES..3 * ENTRIES);
            cells.extend([figure(evicting), at_last.to_string()]);
            if contender.name == LARDER {
                larder = Some((filled, evicting));
            }
        }
        table.row(cells);
    }
    COUNTING.store(false, Ordering::Relaxed);
    Ok(Measured { table, larder })
}
