//! Any bytes as what stands under a key of a `RedisTier`: read or nothing, never a panic.
//!
//! The bytes are read as they are, and with checksums that fit, which keep a fuzzer out otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| larder::__fuzz_tier_frame(data));
