//! Belady's MIN, which knows the future.

use std::collections::BTreeSet;

/// When each access's key is next used: the index of that access.
pub fn next_uses(ids: &[u32]) -> Vec<Option<usize>> {
    let most = ids.iter().max().map_or(0, |&id| id as usize + 1);
    let mut next = vec![None; ids.len()];
    let mut last = vec![None; most];
    for (i, &id) in ids.iter().enumerate() {
        if let Some(previous) = last[id as usize].replace(i) {
            next[previous] = Some(i);
        }
    }
    next
}

/// Hits of the optimum, which may also refuse to store: what is used again the latest goes.
pub fn hits(ids: &[u32], capacity: usize) -> usize {
    let mut hits = 0;
    each(ids, capacity, |_, hit| hits += usize::from(hit));
    hits
}

/// The same, access by access.
pub fn each(ids: &[u32], capacity: usize, mut told: impl FnMut(usize, bool)) {
    // A resident is known by the access that uses it next, which no other shares.
    let mut resident = BTreeSet::new();
    for (i, next) in next_uses(ids).into_iter().enumerate() {
        told(i, resident.remove(&i));
        resident.extend(next);
        if resident.len() > capacity {
            resident.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hits;

    #[test]
    fn a_loop_one_longer_than_the_cache() {
        let ids: Vec<u32> = (0..4).cycle().take(40).collect();
        // three of four stay, the fourth is never stored
        assert_eq!(hits(&ids, 3), 27);
        assert_eq!(hits(&ids, 4), 36);
    }

    #[test]
    fn what_comes_back_last_goes() {
        assert_eq!(hits(&[1, 2, 1, 3, 1, 2], 2), 3);
    }
}
