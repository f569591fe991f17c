use super::*;
use proptest::prelude::*;

fn get(table: &Table<u32>, hash: Hash, value: u32) -> Option<SlotId> {
    table.find(hash, |id, group, lane| (group.slots[lane] == Some(value)).then_some(id))
}

fn put(table: &mut Table<u32>, hash: Hash, value: u32) -> Option<Claim> {
    let claim = table.claim(hash)?;
    *table.entry_mut(claim.id) = Some(value);
    Some(claim)
}

#[test]
fn one_hash_fills_its_reach_and_no_more() {
    let mut table = Table::with_groups(REACH + 2);
    let hash = Hash::new(7);
    for value in 0..(REACH * LANES) as u32 {
        assert!(put(&mut table, hash, value).is_some());
    }
    assert_eq!(put(&mut table, hash, u32::MAX), None);
    assert!(get(&table, hash, (REACH * LANES) as u32 - 1).is_some());
    table.validate();
}

#[test]
fn a_flood_of_one_hash_leaves_its_class_marked_and_counts_the_others() {
    let mut table = Table::with_groups(REACH + 2);
    let (flood, other) = (Hash::new(7), Hash::new(8));
    let ids: Vec<_> = (1..(REACH * LANES) as u32)
        .map(|value| put(&mut table, flood, value).unwrap().id)
        .collect();
    let passer = put(&mut table, other, 1).unwrap().id;
    table.validate();
    for id in ids.into_iter().chain([passer]) {
        table.evict(id);
    }
    table.validate();
    let (_, home) = table.home(flood).unwrap();
    assert!(home.is_passed_by(flood) && !home.is_passed_by(other));
    assert_eq!(get(&table, flood, 0), None);
}

#[test]
fn a_full_table_of_full_groups_ends_every_search() {
    let mut table = Table::with_groups(2);
    for value in 0..32 {
        assert!(put(&mut table, Hash::new(u64::from(value) << 19 | 3), value).is_some());
    }
    assert_eq!(get(&table, Hash::new(3), 99), None);
    assert_eq!(put(&mut table, Hash::new(3), 99), None);
    table.validate();
}

#[test]
fn what_moved_is_where_the_old_table_says_and_what_found_no_room_has_stayed() {
    let (mut old, mut new) = (Table::with_groups(20), Table::with_groups(8));
    let hash = |value: u32| Hash::new(u64::from(value).wrapping_mul(0x9E37_79B9) & 0xFF_FFFF);
    let ids: Vec<_> =
        (0..200).map(|value| (value, put(&mut old, hash(value), value).unwrap().id)).collect();
    for (value, id) in &ids {
        old.stand(*id, value % 2 == 0, (value % 8) as u8, *value as u8);
    }
    *old.entry_mut(ids[7].1) = None;
    old.kill(ids[7].1);
    old.move_into(&mut new);
    new.validate();
    let mut stayed = 0;
    for (value, id) in ids {
        let Some(there) = old.moved(id) else {
            assert!(value == 7 || old.entry(id) == Some(&value));
            stayed += 1;
            continue;
        };
        assert_eq!((new.entry(there), new.hash_of(there)), (Some(&value), hash(value)));
        assert_eq!((new.in_main(there), new.heat(there)), (value % 2 == 0, (value % 8) as u8));
        assert_eq!((new.seen(there), get(&new, hash(value), value)), (value as u8, Some(there)));
    }
    assert_eq!((new.live(), stayed), (128, 72));
}

#[test]
fn a_dead_slot_is_taken_over_in_its_queue() {
    let mut table = Table::with_groups(1);
    let claim = put(&mut table, Hash::new(5), 1).unwrap();
    table.set_in_main(claim.id, true);
    *table.entry_mut(claim.id) = None;
    table.kill(claim.id);
    assert_eq!(get(&table, Hash::new(5), 1), None);
    let again = put(&mut table, Hash::new(9), 2).unwrap();
    assert_eq!(again, Claim { id: claim.id, was_dead: true });
    assert!(table.in_main(again.id) && table.is_live(again.id));
    table.validate();
}

#[test]
fn what_stands_beyond_a_full_group_is_looked_for_by_hashes_of_its_class() {
    let mut table = Table::with_groups(2);
    let (hash, same_class, other_class) =
        (Hash::new(3), Hash::new(3 + CLASSES as u64), Hash::new(4));
    for n in 0..17 {
        put(&mut table, hash, n).unwrap();
    }
    let (_, home) = table.home(hash).unwrap();
    assert!(home.is_passed() && home.is_passed_by(hash) && home.is_passed_by(same_class));
    assert!(!home.is_passed_by(other_class));
    assert!((0..17).all(|n| get(&table, hash, n).is_some()));
    table.validate();
}

proptest! {
    #[test]
    fn finds_what_it_holds(
        groups in 1..6_usize,
        ops in prop::collection::vec((0..4_u8, 0..48_u32), 1..300),
    ) {
        // few homes and few tags, so that groups overflow and tags collide
        let hash = |value: u32| Hash::new(u64::from(value % 5) << 21 | u64::from(value % 3 + 1));
        let mut table = Table::with_groups(groups);
        let mut held: Vec<(u32, SlotId)> = Vec::new();
        let mut dead: Vec<SlotId> = Vec::new();
        for (op, value) in ops {
            let at = held.iter().position(|&(v, _)| v == value);
            match (op, at) {
                (0 | 1, None) => if let Some(claim) = put(&mut table, hash(value), value) {
                    prop_assert_eq!(claim.was_dead, dead.contains(&claim.id));
                    dead.retain(|&id| id != claim.id);
                    held.push((value, claim.id));
                },
                (2, Some(at)) => {
                    let (_, id) = held.swap_remove(at);
                    *table.entry_mut(id) = None;
                    table.kill(id);
                    dead.push(id);
                }
                (3, Some(at)) => {
                    let (_, id) = held.swap_remove(at);
                    *table.entry_mut(id) = None;
                    table.free(id);
                }
                (3, None) => if let Some(id) = dead.pop() { table.free(id) },
                _ => {}
            }
            table.validate();
            for &(value, id) in &held {
                prop_assert_eq!(get(&table, hash(value), value), Some(id));
            }
        }
    }
}
