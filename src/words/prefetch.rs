//! Asking for memory before it is needed.

/// Begins to load the line that `t` begins in; nobody waits for it. Nothing where there is no such
/// instruction.
#[inline]
pub(crate) fn prefetch<T>(t: &T) {
    #[cfg(target_arch = "x86_64")]
    safe_arch::prefetch_t0(t);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = t;
}
