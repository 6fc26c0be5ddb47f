//! The journal: one writer owns every file in the log directory; anyone may read.
//!
//! Written:
//! * [`encode`]: a sample, by way of [`changes`], or a flush becomes the bytes of its lines, in [`text`] or [`json`].
//! * [`plan`]: what the writer does, as a pure function of events and a clock.
//! * [`writer`]: the thread that obeys the plan, through [`directory`], [`segment`] and [`recover`].
//! * [`archive`]: compression of closed days; [`state`]: `psmond.state`; [`lock`]: one writer at a time.
//!
//! Read:
//! * [`buried`]: whose obituary is there already;
//! * [`mod@line`]: what a line says; [`reader`]: the lines of a segment; [`verify`]: is it whole?
//!
//! A sample and its `#tick`, or a flush, are written in one call, and what fails half-way is cut off again, so that
//! no half line ever stands before a good one.

pub mod archive;
pub mod buried;
pub mod changes;
pub mod directory;
pub mod encode;
pub mod json;
pub mod line;
pub mod lock;
pub mod own_log;
pub mod pipe;
pub mod plan;
pub mod reader;
pub mod recover;
pub mod segment;
pub mod state;
pub mod text;
pub mod verify;
pub mod writer;
