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
    /// type. It was treated as absent.
    invalid_frames,
    /// Loaded values that were not stored, because something happened to the key or to a tag after the load
    /// began, or because another process had stored it first.
    refused_stores,
    /// Changes by others that the server reported, and entries that expired or were evicted there.
    heard,
    /// Entries and values that were too large: not stored, or not read.
    oversized,
    /// Entries whose key or value the codec could not write.
    unencodable,
}
