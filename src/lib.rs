//! larder

mod words;
mod rules;
mod parts;
mod shard;
mod engine;
mod front;
mod builder;
#[cfg(all(test, any(larder_loom, larder_shuttle)))]
mod models;

pub use builder::CacheBuilder;
pub use equivalent::Equivalent;
pub use front::at::At;
pub use front::cache::Cache;
pub use front::entries::Entries;
pub use rules::got::{Got, How, StaleWhy};
pub use rules::loaded::{LoadCx, LoadReason, Loaded};
pub use rules::stats::Stats;
pub use words::clock::{Clock, ManualClock};
pub use words::error::{ConfigError, Given, LoadError};
pub use words::removal::{Removal, RemovalCause};
