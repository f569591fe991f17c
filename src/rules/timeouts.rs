//! For how long a load is waited for.

use super::expiry::{NEVER, ticks};
use crate::words::tick::Tick;
use std::time::Duration;

/// In ticks from when the load begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// After these it is given up: it loses its key, and its waiters are told.
    pub(crate) load: u64,
    /// `u64::MAX` for none.
    soft: u64,
}

impl Timeouts {
    /// None is shorter than set, though the clock may be late by `lag` ticks.
    pub(crate) fn new(load: Duration, soft: Option<Duration>, lag: u64) -> Self {
        let lasting = |time| ticks(time).saturating_add(lag).min(NEVER);
        Self { load: lasting(load), soft: soft.map_or(u64::MAX, lasting) }
    }

    /// After so many its waiters are served a stale value, if there is one; `None` where nothing is.
    pub(crate) fn soft(&self) -> Option<u64> {
        Some(self.soft).filter(|soft| *soft < u64::MAX)
    }

    /// The tick at which a load is given up that began at `started`.
    #[inline]
    pub(crate) fn deadline(&self, started: Tick) -> Tick {
        started.saturating_add(self.load)
    }
}
