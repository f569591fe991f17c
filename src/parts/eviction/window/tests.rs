use super::super::mock::MockCache;
use super::*;

type WindowCache = MockCache<ClockWindow>;

/// A small generator; the low bits of its state are poor, so the high ones are given out.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Few keys come often, most seldom.
    fn skewed(&mut self, n: u64) -> u64 {
        let range = 1 + self.below(n);
        self.below(range)
    }
}

fn exercise(capacity: usize, told: usize, steps: u64) {
    let mut cache = WindowCache::new(capacity, told);
    let mut random = Random(capacity as u64);
    for step in 0..steps {
        let key = random.skewed(4 * capacity as u64 + 4);
        match random.below(100) {
            0..=84 => _ = cache.get(key),
            85..=97 => cache.remove(key),
            98 => cache.grow(key),
            _ if step % 7 == 0 => cache.clear(),
            _ => (0..2 * capacity as u64).for_each(|n| _ = cache.get(1_000_000 + step + n)),
        }
        cache.validate();
        assert!(cache.resident.len() <= capacity);
    }
}

#[test]
fn queues_and_slots_agree_whatever_happens() {
    exercise(100, 100, 4_000);
    exercise(300, 0, 2_000);
}

#[test]
fn the_smallest_caches_work() {
    for capacity in 1..=3 {
        exercise(capacity, capacity, 4_000);
        exercise(capacity, 0, 4_000);
        // told a share that is not what the shard really holds
        exercise(capacity, 3 * capacity, 2_000);
    }
}

#[test]
fn an_empty_shard_has_no_victim() {
    let mut cache = WindowCache::new(3, 3);
    assert_eq!(cache.policy.evict(&mut cache.slots), None);
    (0..3).for_each(|key| _ = cache.get(key));
    (0..3).for_each(|key| cache.remove(key));
    assert_eq!(cache.policy.evict(&mut cache.slots), None);
    cache.validate();
}

#[test]
fn many_dead_slots_hide_no_live_one() {
    let mut cache = WindowCache::new(1_000, 1_000);
    (0..1_000).for_each(|key| _ = cache.get(key));
    (0..1_000).filter(|key| *key != 977).for_each(|key| cache.remove(key));
    let only = cache.resident[&977];
    assert_eq!(cache.policy.evict(&mut cache.slots), Some(only));
}

#[test]
fn nothing_is_held_for_ghosts_before_the_first_eviction() {
    let mut cache = WindowCache::new(1_000, 1_000);
    (0..1_000).for_each(|key| _ = cache.get(key));
    assert_eq!(cache.policy.ghosts.len(), 0);
    cache.get(1_000);
    assert!(cache.policy.ghosts.len() >= 1_000);
}

#[test]
fn an_unknown_capacity_is_followed() {
    let mut cache = WindowCache::new(2_000, 0);
    (0..10_000).for_each(|key| _ = cache.get(key));
    assert!((1_750..=2_000).contains(&cache.policy.capacity));
    cache.set_capacity(5_000);
    (0..20_000).for_each(|key| _ = cache.get(key));
    assert!(cache.policy.capacity > 4_300);
    assert!(cache.policy.ghosts.len() >= 4_300);
    cache.set_capacity(500);
    (0..1_000).for_each(|key| _ = cache.get(key));
    assert!(cache.policy.capacity < 600);
    cache.validate();
}

#[test]
fn a_loop_larger_than_the_shard_keeps_hitting() {
    let mut cache = WindowCache::new(1_000, 1_000);
    let hits = (0..40).flat_map(|_| 0..1_100).filter(|key| cache.get(*key)).count();
    // LRU has none at all
    assert!(hits > 40 * 1_100 * 7 / 10, "{hits}");
}

#[test]
fn a_scan_does_not_drive_out_what_is_used() {
    let mut cache = WindowCache::new(1_000, 1_000);
    for _ in 0..20 {
        (0..500).for_each(|key| _ = cache.get(key));
    }
    (10_000..30_000).for_each(|key| _ = cache.get(key));
    let kept = (0..500).filter(|key| cache.resident.contains_key(key)).count();
    assert!(kept > 450, "{kept}");
}

#[test]
fn the_window_grows_where_recency_pays() {
    // a key is asked for three times: at once, then when some hundred others came; never again
    let mut cache = WindowCache::new(1_000, 1_000);
    let mut random = Random(1);
    for n in 1_000..60_000_u64 {
        cache.get(n);
        cache.get(n - random.below(200));
        cache.get(n - random.below(200));
    }
    assert!(!cache.policy.target.reached(120), "{:?}", cache.policy.target);
}

#[test]
fn the_main_queue_is_refilled_after_a_change_of_loops() {
    let mut cache = WindowCache::new(200, 200);
    (0..50).flat_map(|_| 0..190).for_each(|key| _ = cache.get(key));
    let mut last = 0;
    // everything is hot; it is cooled after 32 turns and goes after 32 more
    for _ in 0..30 {
        last = (5_000..9_000).filter(|key| cache.get(*key)).count();
    }
    // the best there is: 199 of 4,000
    assert!(last > 100, "{last}");
}

/// Where the key's entry is, if it has one: whether that is the main queue.
fn is_in_main(cache: &WindowCache, key: u64) -> Option<bool> {
    cache.resident.get(&key).map(|id| cache.slots.in_main(*id))
}

#[test]
fn what_was_worth_the_main_queue_goes_back_there_after_a_removal() {
    let mut cache = WindowCache::new(1_000, 1_000);
    (0..1_100).for_each(|key| _ = cache.get(key));
    let keys @ [of_main, of_window, hot] = [501, 1_099, 1_097];
    let queues = |cache: &WindowCache| keys.map(|key| is_in_main(cache, key));
    assert_eq!(queues(&cache), [Some(true), Some(false), Some(false)]);
    (0..2).for_each(|_| assert!(cache.get(hot)));
    let target = cache.policy.target.main();
    // at once, and after some time; odd keys take over no dead slot here
    for newcomers in [0, 400] {
        for key in keys {
            cache.remove(key);
        }
        (2_000..2_000 + newcomers).for_each(|n| _ = cache.get(2 * n + 1));
        for key in keys {
            assert!(!cache.get(key));
        }
        assert_eq!(queues(&cache), [Some(true), Some(false), Some(true)], "{newcomers}");
        assert_eq!(cache.policy.target.main(), target, "it does not speak for a larger window");
        assert!(cache.get(of_main) && cache.get(of_window));
        cache.validate();
    }
}

#[test]
fn two_hits_are_enough_in_a_small_window_and_three_in_others() {
    for (growth, hits, is_hot) in [(0, 1, false), (0, 2, true), (300, 2, false), (300, 3, true)] {
        let mut cache = WindowCache::new(1_000, 1_000);
        (0..1_000).for_each(|key| _ = cache.get(key));
        (0..growth).for_each(|_| cache.policy.target.grow());
        (1_001..1_300).for_each(|n| _ = cache.get(n));
        cache.get(5_000);
        (0..hits).for_each(|_| assert!(cache.get(5_000)));
        // as many as the window holds, and one
        let window = cache.policy.window as u64;
        (6_000..=6_000 + window).for_each(|n| _ = cache.get(n));
        assert_eq!(is_in_main(&cache, 5_000), Some(is_hot), "{growth} {hits}");
    }
}

#[test]
fn keys_of_a_set_that_slides_do_not_stay_for_what_they_were() {
    let mut cache = WindowCache::new(1_000, 1_000);
    let mut random = Random(1);
    let mut keys: Vec<u64> = (0..1_000).collect();
    let mut hits = 0;
    for n in 0..100_000_u64 {
        if n % 5 == 0 {
            keys[random.below(1_000) as usize] = 1_000 + n;
        }
        hits += u64::from(cache.get(keys[random.skewed(1_000) as usize]));
    }
    assert!(hits > 81_000, "{hits}");
}
