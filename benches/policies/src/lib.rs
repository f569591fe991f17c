//! What decides a hit ratio: larder's own eviction code, sharded and not, beside Belady's optimum
//! and the policies of the textbooks, on recorded and on made-up traces. See README.md.
//!
//! Traces, tables, plots and pages are here too, for both packages of benches.

pub mod larder; // the crate's own code under a trace
pub mod min; // the optimum
pub mod page; // tables and figures in the pages they are shown on
pub mod plot; // line charts as SVG
pub mod queues; // what the textbook's policies are made of
pub mod random; // reproducible chance
pub mod show; // the tables
pub mod synthetic; // traces that need no file
pub mod table; // tables as Markdown, medians
pub mod textbook; // LRU and its successors
pub mod trace; // recorded traces
