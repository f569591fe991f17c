//! Prefetching memory.

/// Begins to load the cache line that `t` begins in, without waiting for it. Does nothing on processors without
/// such an instruction.
#[inline]
pub(crate) fn prefetch<T>(t: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(t);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = t;
}
