//! CPU credits: who spent the machine, to the last short-lived fork.
//!
//! * [`cpu`]: CPU time, exact, and how the sampled ticks split it.
//! * [`account`]: what a program spent as one effective user; [`credit`]: what a process remembers of the account it counts for.
//! * [`accounts`]: all of them: who comes, is counted, changes, ends.
//! * [`day`]: what each spent since local midnight.
//! * [`groups`]: what control groups spent, where a view asks for it.
//! * [`lives`]: what single processes used, for stream `credits_process`.
//! * [`budgets`]: what programs, users and control groups may spend, and who runs out of it.
//! * [`closure`]: the sum over all accounts beside the machine's own clock.
//! * [`crediting`]: streams `credits`, `credits_process` and `budgets`, from a tick to their samples.
//!
//! # How a second is counted once
//!
//! A process remembers how much of its CPU time was counted ([`credit::Credit`]). Of the living it is what their CPU clock grew by,
//! at each tick. Of those that end it is what their exit records say beyond what was counted of them while they lived: the rest is
//! never negative, because the larger of what was read and what was recorded is taken. A parent's `cutime` is nowhere added.
//!
//! At an execution and at a change of user the clock is read at once, so that what was used before goes to the program and user
//! that used it. Where the kernel does not tell of these, they show at the next tick, and what lies between is the old one's.
//!
//! Seconds go to the interval in which they were counted. Nothing is smeared: what nobody is known to have used is a row of its own.

pub mod account;
pub mod accounts;
mod balance;
pub mod budgets;
pub mod closure;
pub mod cpu;
pub mod credit;
pub mod crediting;
pub mod day;
pub mod groups;
pub mod lives;
