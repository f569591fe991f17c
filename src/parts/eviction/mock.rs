//! A table of slots as naive as can be, to test policies with.

use super::{Admission, Policy, SlotId, Slots};
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotState {
    #[default]
    Free,
    Live,
    Dead,
}

#[derive(Clone, Debug, Default)]
struct MockSlot {
    state: SlotState,
    heat: u8,
    seen: u8,
    main: bool,
    key: u64,
}

#[derive(Debug, Default)]
pub(super) struct MockSlots(Vec<MockSlot>);

/// The 24 bits that a table would keep of a key's hash.
pub(super) fn hash(key: u64) -> u32 {
    let mixed = (key ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40) as u32
}

impl MockSlots {
    fn get(&self, id: SlotId) -> &MockSlot {
        let slot = &self.0[id as usize];
        assert_ne!(slot.state, SlotState::Free, "a queue holds a free slot");
        slot
    }

    fn get_mut(&mut self, id: SlotId) -> &mut MockSlot {
        &mut self.0[id as usize]
    }
}

impl Slots for MockSlots {
    fn is_live(&self, id: SlotId) -> bool {
        self.get(id).state == SlotState::Live
    }
    fn free(&mut self, id: SlotId) {
        assert_eq!(self.get(id).state, SlotState::Dead);
        self.get_mut(id).state = SlotState::Free;
    }
    fn heat(&self, id: SlotId) -> u8 {
        self.get(id).heat
    }
    fn set_heat(&mut self, id: SlotId, heat: u8) {
        self.get_mut(id).heat = heat;
    }
    fn seen(&self, id: SlotId) -> u8 {
        self.get(id).seen
    }
    fn set_seen(&mut self, id: SlotId, seen: u8) {
        self.get_mut(id).seen = seen;
    }
    fn in_main(&self, id: SlotId) -> bool {
        self.get(id).main
    }
    fn set_in_main(&mut self, id: SlotId, main: bool) {
        self.get_mut(id).main = main;
    }
    fn hash(&self, id: SlotId) -> u32 {
        hash(self.get(id).key)
    }
}

/// A cache of nothing but keys.
#[derive(Debug)]
pub(super) struct MockCache<P> {
    pub(super) slots: MockSlots,
    pub(super) policy: P,
    pub(super) resident: HashMap<u64, SlotId>,
    capacity: usize,
}

impl<P: Policy> MockCache<P> {
    /// `told`: what the policy is told of the capacity.
    pub(super) fn new(capacity: usize, told: usize) -> Self {
        Self {
            slots: MockSlots::default(),
            policy: P::new(told, 1),
            resident: HashMap::new(),
            capacity,
        }
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Whether it was a hit; on a miss the key is inserted.
    pub(super) fn get(&mut self, key: u64) -> bool {
        if let Some(id) = self.resident.get(&key) {
            let slot = self.slots.get_mut(*id);
            slot.heat = (slot.heat + 1).min(7);
            return true;
        }
        let admission = self.policy.arrive(&mut self.slots, hash(key), super::Bulk::AVERAGE);
        while self.resident.len() >= self.capacity {
            let id = self.policy.evict(&mut self.slots).expect("live entries");
            let slot = self.slots.get_mut(id);
            assert_eq!(slot.state, SlotState::Live);
            slot.state = SlotState::Free;
            assert_eq!(self.resident.remove(&slot.key), Some(id));
        }
        self.store(key, admission);
        false
    }

    fn store(&mut self, key: u64, admission: Admission) {
        // every other time a dead slot is preferred, as in a group that has no free one
        let prefer = if key % 2 == 0 { SlotState::Dead } else { SlotState::Free };
        let find = |state| self.slots.0.iter().position(|slot| slot.state == state);
        let at = find(prefer).or_else(|| find(SlotState::Free)).unwrap_or_else(|| {
            self.slots.0.push(MockSlot::default());
            self.slots.0.len() - 1
        });
        let slot = &mut self.slots.0[at];
        let was = std::mem::replace(&mut slot.state, SlotState::Live);
        slot.key = key;
        self.resident.insert(key, at as SlotId);
        if was == SlotState::Dead {
            self.policy.revive(&mut self.slots, at as SlotId, admission, super::Bulk::AVERAGE);
        } else {
            self.policy.place(&mut self.slots, at as SlotId, admission);
        }
    }

    pub(super) fn remove(&mut self, key: u64) {
        if let Some(id) = self.resident.remove(&key) {
            self.policy.died(&self.slots, id);
            self.slots.get_mut(id).state = SlotState::Dead;
        }
    }

    /// Moves every entry elsewhere, but one that finds no room.
    pub(super) fn grow(&mut self, stranded: u64) {
        let old = std::mem::take(&mut self.slots.0);
        let Self { slots, resident, .. } = self;
        slots.0.push(MockSlot::default());
        resident.remove(&stranded);
        self.policy.renumber(|id| {
            let slot = &old[id as usize];
            if slot.key == stranded {
                return None;
            }
            (slot.state == SlotState::Live).then(|| {
                let new = slots.0.len() as SlotId;
                assert_eq!(resident.insert(slot.key, new), Some(id));
                slots.0.push(slot.clone());
                new
            })
        });
    }

    pub(super) fn clear(&mut self) {
        self.policy.clear();
        self.slots.0.clear();
        self.resident.clear();
    }

    pub(super) fn validate(&self) {
        self.policy.validate(&self.slots);
        for (key, id) in &self.resident {
            assert_eq!((self.slots.get(*id).key, self.slots.is_live(*id)), (*key, true));
        }
        let live = self.slots.0.iter().filter(|slot| slot.state == SlotState::Live).count();
        assert_eq!(live, self.resident.len());
    }
}
