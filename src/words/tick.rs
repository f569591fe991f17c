//! The unit of time.

/// Milliseconds since the clock's own zero. A clock starts above zero and never reaches 2^41.
pub(crate) type Tick = u64;

/// Bits below a tick where it is packed into a word with something smaller: words are then in the order
/// of their ticks.
pub(crate) const BELOW: u32 = 22;
