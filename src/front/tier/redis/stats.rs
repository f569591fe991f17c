//! What a tier has counted.

use crate::words::sync::Counter;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a [`RedisTier`](crate::RedisTier) and its clones have counted since they were connected:
        /// from [`RedisTier::stats`](crate::RedisTier::stats). What the cache in front counts is in its
        /// own [`Stats`](crate::Stats).
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
    /// Connections that were made, the first one among them.
    connects,
    /// Connections that were lost, or given up because nothing came back.
    disconnects,
    /// Requests that were sent: pipelines of commands, each of one round trip.
    calls,
    /// Requests that failed, for whatever reason: those that were not even sent, and those of which the
    /// server refused a part (a full one, say).
    errors,
    /// Requests that were sent and not answered within [`timeout`](crate::RedisTierBuilder::timeout).
    timeouts,
    /// Bytes under a key of ours that are no frame of ours: damaged, foreign, of another codec or type.
    /// They were treated as nothing.
    invalid_frames,
    /// Loaded values that were not stored, because something happened to the key or to a tag since the
    /// load began, or because another process had stored it first.
    refused_stores,
    /// Changes by others that the server told of, and what has ended or was evicted there.
    heard,
    /// Entries and values that were too large: not stored, or not read.
    oversized,
    /// Entries whose key or value its codec could not write.
    unencodable,
}
