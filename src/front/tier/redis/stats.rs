//! What a tier has counted.

use crate::words::sync::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a [`RedisTier`](crate::RedisTier) and its clones have counted since they were connected: from
        /// [`RedisTier::stats`](crate::RedisTier::stats). The cache in front has its own
        /// [`Stats`](crate::Stats).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct RedisTierStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl RedisTierStats {
            /// Returns all counts with their field names, for whatever exports metrics, in the order of this
            /// page. Future versions may have more. [`Stats::counts`](crate::Stats::counts) does the same for
            /// the cache in front.
            ///
            /// ```
            /// # fn export(tier: &larder::RedisTier) {
            /// for (name, count) in tier.stats().counts() {
            ///     println!("cache_redis_{name}_total{{cache=\"users\"}} {count}"); // cache_redis_calls_total{..} 1
            /// }
            /// # }
            /// ```
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }

        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> RedisTierStats {
                RedisTierStats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Connections that were made, the first one included.
    connects,
    /// Connections that were lost, or given up because nothing came back.
    disconnects,
    /// Requests that were sent: each is a pipeline of commands, and one round trip.
    calls,
    /// Requests that failed, for whatever reason, including those that were not even sent, and those of which
    /// the server refused a part (because it is full, say).
    errors,
    /// Requests that were sent and not answered within [`timeout`](crate::RedisTierBuilder::timeout).
    timeouts,
    /// Data under the tier's keys that could not be read as an entry: damaged, foreign, of another codec or
    /// type. It was treated as absent. An [event](crate::Event::TierSkipped) says what to do.
    invalid_frames,
    /// Loaded values that were not stored, because something happened to the key or to a tag after the load
    /// began, or because another process had stored it first.
    refused_stores,
    /// Changes by others that the server reported, and entries that expired or were evicted there.
    heard,
    /// Entries and values that were too large: not stored, or not read.
    oversized,
    /// Entries that were not stored because the codec could not write their key or value, or could not read
    /// back what it wrote. An [event](crate::Event::TierSkipped) says why.
    unencodable,
}
