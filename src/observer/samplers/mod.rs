//! The samplers: each makes the rows of its stream from the one table.

pub mod alerts;
pub mod credits;
pub mod events;
pub mod exits;
pub mod measure;
pub mod ps;
pub mod pss;
pub mod usage;
