//! Random numbers for ids, tokens and pauses: unique with high probability, but not secret.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) type Id = [u8; 16];

/// A counter, hashed with a random key from the operating system.
pub(super) struct Chance {
    keys: RandomState,
    count: AtomicU64,
}

impl Chance {
    pub(super) fn new() -> Self {
        Self { keys: RandomState::new(), count: AtomicU64::new(0) }
    }

    pub(super) fn id(&self) -> Id {
        let mut id = Id::default();
        let (high, low) = id.split_at_mut(8);
        high.copy_from_slice(&self.number().to_le_bytes());
        low.copy_from_slice(&self.number().to_le_bytes());
        id
    }

    pub(super) fn number(&self) -> u64 {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        // with the process id: after a fork, two processes go on with the same counter and key
        self.keys.hash_one((std::process::id(), count))
    }
}
