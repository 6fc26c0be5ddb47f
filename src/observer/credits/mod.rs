//! CPU credits: one is 60 seconds of CPU time.
//!
//! * [`budgets`]: what programs, users and control groups may spend, and who runs out of it.

mod balance;
pub mod budgets;
