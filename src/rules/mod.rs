//! Floor 1: decisions as pure functions of values, and the public types that go in and out. No lock, no clock.

pub(crate) mod backoff;
pub(crate) mod counted;
pub(crate) mod ahead;
pub(crate) mod altered;
pub(crate) mod expiry;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod got;
pub(crate) mod loaded;
pub(crate) mod many;
pub(crate) mod stats;
pub(crate) mod tag;
pub(crate) mod tier;
pub(crate) mod timeouts;
