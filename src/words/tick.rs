//! The unit of time.

/// Milliseconds since the clock's own zero. A clock starts above zero and never reaches 2^41.
pub(crate) type Tick = u64;
