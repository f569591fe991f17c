//! Ghosts: fingerprints of the keys that were evicted last, with dates.
//!
//! They are in a table of lines of sixteen, each one cache line, so that asking for a key and remembering one
//! cost one cache miss each. The oldest ghost of a line makes room for a new one. Sixteen are enough for the
//! lines' uneven load to cost nothing that could be measured; eight, in a line shared with the entries, let
//! loops fall to a hit ratio of 0.

use super::ticks::{OLDEST, Ticks};
use crate::words::prefetch::prefetch;
use wide::{CmpEq, i16x8, u8x16};

const WAYS: usize = 16;
/// How many prints are compared at once.
const HALF: usize = WAYS / 2;
/// 15 bits of the hash tell the ghosts of a line apart: one lookup in two thousand errs.
const PRINT: i16 = 0x7fff;
/// Set in the ghost of a key that the main queue evicted.
const MAIN: i16 = i16::MIN;
/// Ghosts of the smallest table, 4 KiB. A small shard profits from many times its size: OLTP at
/// 250 entries gains 2 points.
const LEAST: usize = 1_024;

/// What is remembered of one evicted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ghost {
    /// The window let it go.
    Window {
        /// The policy's time when it was last looked at.
        used: u8,
        /// The count of the window's evictions when it went.
        gone: u8,
    },
    /// The main queue let it go.
    Main {
        /// The count of the main queue's evictions when it went.
        gone: u8,
    },
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct GhostLine {
    /// 0 for none.
    print: [[i16; HALF]; 2],
    used: [u8; WAYS],
    gone: [u8; WAYS],
}

impl GhostLine {
    /// Without ghosts: places of the greatest age, which are the next to be written.
    fn empty(now: Ticks) -> Self {
        Self { print: [[0; HALF]; 2], used: [now.oldest(); WAYS], gone: [0; WAYS] }
    }

    /// The place of a ghost. Compares all sixteen at once, for most keys have no ghost.
    #[inline]
    fn find(&self, print: i16) -> Option<usize> {
        let found = self.matching(print);
        (found != 0).then(|| found.trailing_zeros() as usize % WAYS)
    }

    /// The places with this print, or by 0 those without a ghost: bit n for place n.
    #[inline]
    #[allow(clippy::cast_sign_loss, reason = "eight bits")]
    fn matching(&self, print: i16) -> u32 {
        let wanted = i16x8::splat(print);
        let mask =
            |half| (i16x8::new(half) & i16x8::splat(PRINT)).cmp_eq(wanted).move_mask() as u32;
        mask(self.print[0]) | mask(self.print[1]) << HALF
    }

    #[inline]
    fn print(&mut self, at: usize) -> &mut i16 {
        &mut self.print[at / HALF % 2][at % HALF]
    }

    /// The place to write: the one used longest ago. Visits every stamp on the way, and sets it to the
    /// greatest age that can be told if it has passed that. All sixteen at once: one by one, this was a sixth
    /// of an insert.
    #[inline]
    #[allow(clippy::cast_sign_loss, reason = "sixteen bits")]
    fn oldest(&mut self, now: Ticks) -> usize {
        let stamp = u8x16::splat(now.stamp());
        let age = (stamp - u8x16::from(self.used)).min(u8x16::splat(OLDEST));
        self.used = (stamp - age).to_array();
        let most = age.to_array().iter().fold(0, |most, age| most.max(*age));
        let oldest = age.cmp_eq(u8x16::splat(most)).move_mask() as u32;
        // a place without a ghost looks just as old, and goes first
        let empty = if most == OLDEST { self.matching(0) } else { 0 };
        let wanted = if empty == 0 { oldest } else { empty };
        wanted.trailing_zeros() as usize % WAYS
    }
}

#[derive(Clone, Debug)]
pub(super) struct Ghosts {
    /// Empty until the first eviction: a cache that never fills pays nothing.
    lines: Vec<GhostLine>,
}

/// 0 stands for "no ghost", so the one hash in 32,768 that has this print shares another's.
#[inline]
#[allow(clippy::cast_possible_wrap, reason = "15 bits")]
fn print(hash: u32) -> i16 {
    (hash as i16 & PRINT).max(1)
}

impl Ghosts {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len() * WAYS
    }

    /// How many ghosts a shard of so many entries wants: as many.
    pub(super) fn wanted(entries: usize) -> usize {
        entries.max(LEAST)
    }

    /// Makes room for the ghosts of so many entries, if there is far too little or too much. The old ghosts
    /// are forgotten: their hashes are not kept, so they cannot be moved.
    pub(super) fn fit(&mut self, entries: usize, now: Ticks) {
        let wanted = Self::wanted(entries);
        if self.len() >= wanted / 2 && self.len() / 2 <= wanted {
            return;
        }
        let lines = wanted.div_ceil(WAYS);
        self.lines = Vec::new();
        self.lines.reserve_exact(lines);
        self.lines.resize(lines, GhostLine::empty(now));
    }

    /// The hash has 24 bits; its high ones choose the line, its low ones the print.
    #[inline]
    fn line(&mut self, hash: u32) -> Option<&mut GhostLine> {
        let at = (u64::from(hash & 0xff_ffff) * self.lines.len() as u64) >> 24;
        self.lines.get_mut(at as usize)
    }

    /// Starts loading the line of a key.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        let at = (u64::from(hash & 0xff_ffff) * self.lines.len() as u64) >> 24;
        if let Some(line) = self.lines.get(at as usize) {
            prefetch(line);
        }
    }

    /// Finds the ghost of a key, and forgets it. `now` is as in [`add`](Self::add).
    #[inline]
    pub(super) fn take(&mut self, hash: u32, now: Ticks) -> Option<Ghost> {
        let line = self.line(hash)?;
        let print = print(hash);
        let at = line.find(print)?;
        let kind = std::mem::take(line.print(at)) & MAIN;
        let used = std::mem::replace(&mut line.used[at], now.oldest());
        let gone = line.gone[at];
        Some(if kind == 0 { Ghost::Window { used, gone } } else { Ghost::Main { gone } })
    }

    /// Remembers a key. `now` is the clock that `used` is read off.
    ///
    /// A ghost of the main queue is dated `now`: its entry was idle for a whole turn of that queue,
    /// and with its own date it would be the next to be replaced, before it could tell the window
    /// to shrink. (OLTP at 500 and 1,000 entries loses 2 points.)
    #[inline]
    pub(super) fn add(&mut self, hash: u32, ghost: Ghost, now: Ticks) {
        let Some(line) = self.line(hash) else { return };
        let at = line.oldest(now);
        (*line.print(at), line.used[at], line.gone[at]) = match ghost {
            Ghost::Window { used, gone } => (print(hash), used, gone),
            Ghost::Main { gone } => (print(hash) | MAIN, now.stamp(), gone),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock_at(tick: u32) -> Ticks {
        let mut now = Ticks::new(1);
        (0..tick).for_each(|_| now.advance());
        now
    }

    #[test]
    fn a_line_is_a_cache_line() {
        assert_eq!(size_of::<GhostLine>(), 64);
    }

    #[test]
    fn a_ghost_is_found_once() {
        let mut ghosts = Ghosts::new();
        let now = clock_at(300);
        let ghost = Ghost::Window { used: now.stamp(), gone: 9 };
        ghosts.add(77, ghost, now);
        assert_eq!((ghosts.take(77, now), ghosts.len()), (None, 0), "nothing is held ahead");
        ghosts.fit(10, now);
        assert_eq!(ghosts.len(), 1_024);
        for hash in [0, 1, 0x8000, 0xff_ffff, 0x12_3456] {
            ghosts.add(hash, ghost, now);
            assert_eq!(ghosts.take(hash ^ 0x100, now), None);
            assert_eq!(ghosts.take(hash, now), Some(ghost));
            assert_eq!(ghosts.take(hash, now), None);
            ghosts.add(hash, Ghost::Main { gone: 3 }, now);
            assert_eq!(ghosts.take(hash, now), Some(Ghost::Main { gone: 3 }));
        }
    }

    #[test]
    fn the_oldest_of_a_line_makes_room() {
        let mut ghosts = Ghosts::new();
        ghosts.fit(1, Ticks::new(1));
        // all in the first line, across the wrap of the stamps
        for n in 1..=17 {
            let now = clock_at(240 + n);
            ghosts.add(n, Ghost::Window { used: now.stamp(), gone: 0 }, now);
        }
        let now = clock_at(257);
        assert_eq!(ghosts.take(1, now), None);
        assert!((2..=17).all(|n| ghosts.take(n, now).is_some()));
    }

    #[test]
    fn ages_do_not_wrap_while_the_line_is_visited() {
        let mut ghosts = Ghosts::new();
        ghosts.fit(1, Ticks::new(1));
        let mut now = Ticks::new(1);
        ghosts.add(1, Ghost::Window { used: 0, gone: 0 }, now);
        for tick in 0..1_000 {
            now.advance();
            if tick % 50 == 0 {
                ghosts.add(2, Ghost::Main { gone: 0 }, now);
                ghosts.take(2, now);
            }
        }
        let Some(Ghost::Window { used, .. }) = ghosts.take(1, now) else { panic!("forgotten") };
        assert_eq!(now.age(used), OLDEST);
    }
}
