//! Who left, and when: fingerprints of the keys that were evicted last.
//!
//! A table of lines of sixteen, each one cache line, so that asking for a key and remembering one
//! cost one miss each. The oldest ghost of a line makes room for a new one. Sixteen are enough for
//! the lines' uneven load to cost nothing that could be measured; eight, in a line shared with the
//! entries, let loops fall to a hit ratio of 0.

use super::ticks::{OLDEST, Ticks};

const WAYS: usize = 16;
/// 15 bits of the hash tell the ghosts of a line apart: one lookup in two thousand errs.
const PRINT: u16 = 0x7fff;
/// Set in a ghost that the main queue evicted.
const MAIN: u16 = 0x8000;
/// Lines of the smallest table, 4 KiB. A small shard profits from ghosts of many times its size:
/// OLTP at 250 entries gains 2 points from 1,024 of them.
const LEAST_LINES: usize = 64;

/// What is remembered of one key.
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
struct Line {
    /// 0 for none.
    print: [u16; WAYS],
    used: [u8; WAYS],
    gone: [u8; WAYS],
}

impl Line {
    const EMPTY: Self = Self { print: [0; WAYS], used: [0; WAYS], gone: [0; WAYS] };

    /// The place to write: a free one, else the one used longest ago. Every stamp is visited on
    /// the way, and set to the greatest age that can be told if it has passed it.
    fn oldest(&mut self, now: Ticks) -> usize {
        let stamp = now.stamp();
        let mut age = [0; WAYS];
        for ((age, used), print) in age.iter_mut().zip(&mut self.used).zip(&self.print) {
            *age = stamp.wrapping_sub(*used).min(OLDEST);
            *used = stamp.wrapping_sub(*age);
            if *print == 0 {
                *age = u8::MAX;
            }
        }
        let most = age.iter().fold(0, |most, age| most.max(*age));
        age.iter().position(|age| *age == most).unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Ghosts {
    /// Empty until the first eviction: a cache that never fills pays nothing.
    lines: Vec<Line>,
}

/// 0 stands for "no ghost", so the one hash in 32,768 that has this print shares another's.
fn print(hash: u32) -> u16 {
    (hash as u16 & PRINT).max(1)
}

impl Ghosts {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len() * WAYS
    }

    /// Makes room for as many ghosts as there are entries. Those there were are forgotten: their
    /// hashes are not kept, so they cannot be moved.
    pub(super) fn allocate(&mut self, entries: usize) {
        let lines = entries.div_ceil(WAYS).max(LEAST_LINES);
        self.lines = Vec::new();
        self.lines.reserve_exact(lines);
        self.lines.resize(lines, Line::EMPTY);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// The hash has 24 bits; its high ones choose the line, its low ones the print.
    fn line(&mut self, hash: u32) -> Option<&mut Line> {
        let at = (u64::from(hash & 0xff_ffff) * self.lines.len() as u64) >> 24;
        self.lines.get_mut(at as usize)
    }

    /// Finds the ghost of a key, and forgets it.
    pub(super) fn take(&mut self, hash: u32) -> Option<Ghost> {
        let line = self.line(hash)?;
        let print = print(hash);
        // Without an early exit the comparison is a few vector instructions, and most keys have
        // no ghost.
        if !line.print.iter().fold(false, |any, p| any | (p & PRINT == print)) {
            return None;
        }
        let at = line.print.iter().position(|p| p & PRINT == print)?;
        let kind = std::mem::take(&mut line.print[at]) & MAIN;
        let (used, gone) = (line.used[at], line.gone[at]);
        Some(if kind == 0 { Ghost::Window { used, gone } } else { Ghost::Main { gone } })
    }

    /// Remembers a key. `now` is the clock that `used` is read off.
    ///
    /// A ghost of the main queue is dated `now`: its entry was idle for a whole turn of that queue,
    /// and with its own date it would be the next to be replaced, before it could tell the window
    /// to shrink. (OLTP at 500 and 1,000 entries loses 2 points.)
    pub(super) fn add(&mut self, hash: u32, ghost: Ghost, now: Ticks) {
        let Some(line) = self.line(hash) else { return };
        let at = line.oldest(now);
        (line.print[at], line.used[at], line.gone[at]) = match ghost {
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
        assert_eq!(size_of::<Line>(), 64);
    }

    #[test]
    fn a_ghost_is_found_once() {
        let mut ghosts = Ghosts::new();
        let now = clock_at(300);
        let ghost = Ghost::Window { used: now.stamp(), gone: 9 };
        ghosts.add(77, ghost, now);
        assert_eq!((ghosts.take(77), ghosts.len()), (None, 0), "nothing is held ahead");
        ghosts.allocate(10);
        assert_eq!(ghosts.len(), 1_024);
        for hash in [0, 1, 0x8000, 0xff_ffff, 0x12_3456] {
            ghosts.add(hash, ghost, now);
            assert_eq!(ghosts.take(hash ^ 0x100), None);
            assert_eq!(ghosts.take(hash), Some(ghost));
            assert_eq!(ghosts.take(hash), None);
            ghosts.add(hash, Ghost::Main { gone: 3 }, now);
            assert_eq!(ghosts.take(hash), Some(Ghost::Main { gone: 3 }));
        }
        ghosts.clear();
        assert_eq!(ghosts.len(), 0);
    }

    #[test]
    fn the_oldest_of_a_line_makes_room() {
        let mut ghosts = Ghosts::new();
        ghosts.allocate(1);
        // all in the first line, across the wrap of the stamps
        for n in 1..=17 {
            let now = clock_at(240 + n);
            ghosts.add(n, Ghost::Window { used: now.stamp(), gone: 0 }, now);
        }
        assert_eq!(ghosts.take(1), None);
        assert!((2..=17).all(|n| ghosts.take(n).is_some()));
    }

    #[test]
    fn ages_do_not_wrap_while_the_line_is_visited() {
        let mut ghosts = Ghosts::new();
        ghosts.allocate(1);
        let mut now = Ticks::new(1);
        ghosts.add(1, Ghost::Window { used: 0, gone: 0 }, now);
        for tick in 0..1_000 {
            now.advance();
            if tick % 50 == 0 {
                ghosts.add(2, Ghost::Main { gone: 0 }, now);
                ghosts.take(2);
            }
        }
        let Some(Ghost::Window { used, .. }) = ghosts.take(1) else { panic!("forgotten") };
        assert_eq!(now.age(used), OLDEST);
    }
}
