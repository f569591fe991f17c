//! Heap bytes an entry, counted by the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::contender::{Kind, entrants};
use crate::table::{Table, figure};

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

/// Stores a million distinct keys in caches for a million.
pub fn table<K: Kind>() -> Table {
    COUNTING.store(true, Ordering::Relaxed);
    let mut table = Table::new([K::NAME, "B/entry", "resident", "MB in all"]);
    for contender in entrants::<K>() {
        let before = LIVE.load(Ordering::Relaxed);
        let cache = (contender.build)(ENTRIES);
        for key in (0..ENTRIES).map(K::key) {
            cache.insert(&key, K::value(&key));
        }
        cache.settle();
        let live = LIVE.load(Ordering::Relaxed) - before;
        let resident = cache.len();
        table.row([
            contender.name.into(),
            figure(live as f64 / resident as f64),
            resident.to_string(),
            figure(live as f64 / 1e6),
        ]);
        eprintln!("{}: {} measured", K::NAME, contender.name);
    }
    COUNTING.store(false, Ordering::Relaxed);
    table
}
