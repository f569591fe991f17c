//! Races, each with a name, run through their interleavings.
//!
//! Under `--cfg larder_shuttle` a race is run on a thousand random schedules, and on as many with few
//! preemptions at random places, where most bugs of this kind show (PCT: Burckhardt and others, 2010):
//!
//! ```text
//! RUSTFLAGS="--cfg larder_shuttle" cargo test --release --lib models
//! ```
//!
//! `LARDER_SCHEDULES` sets how many of each, `SHUTTLE_RANDOM_SEED` which. A schedule that failed is printed;
//! to run it again, put it into a file and name the file in `LARDER_REPLAY`. Under `--cfg larder_loom`, races
//! that are small enough are run on all schedules, or on all with up to four preemptions, and under the
//! memory model.
//!
//! All time is that of a manual clock, and hashes are the same in every run: so a schedule's decisions are
//! enough to replay it.

mod explore;
mod setting;

#[cfg(larder_loom)]
mod every_schedule;
#[cfg(larder_loom)]
mod lock;

#[cfg(larder_shuttle)]
mod ahead_of_source;
#[cfg(larder_shuttle)]
mod batches;
#[cfg(larder_shuttle)]
mod behind;
#[cfg(larder_shuttle)]
mod bounds;
#[cfg(larder_shuttle)]
mod changes;
#[cfg(larder_shuttle)]
mod expiry;
#[cfg(larder_shuttle)]
mod failures;
#[cfg(larder_shuttle)]
mod fences;
#[cfg(larder_shuttle)]
mod futures;
#[cfg(larder_shuttle)]
mod guards;
#[cfg(larder_shuttle)]
mod histories;
#[cfg(larder_shuttle)]
mod leaving;
#[cfg(larder_shuttle)]
mod loads;
#[cfg(larder_shuttle)]
mod refreshes;
#[cfg(larder_shuttle)]
mod search;
#[cfg(larder_shuttle)]
mod tags;
#[cfg(larder_shuttle)]
mod tier;
#[cfg(larder_shuttle)]
mod timeouts;
#[cfg(larder_shuttle)]
mod walks;
#[cfg(larder_shuttle)]
mod windows;
#[cfg(larder_shuttle)]
mod writes;
