//! psmon is a flight recorder for the processes of a Linux machine.
//!
//! # The house
//!
//! Data go one way, from the kernel up; a room knows what lies below it and [`record`], never what lies above,
//! nor a neighbour on its own floor. `tests/arrows.rs` holds that.
//!
//! ```text
//! top           daemon   joins the rooms: start list, reload, notify, supervision
//!               cli      one file a command; feed, table
//! first floor   observer the one table of processes, its samplers and threads
//!               journal  one writer owns every file; reader, verify
//! ground        source   the kernel's interfaces, one file each: plain values, no policy
//!               config   settings that cannot be wrong; load, watch
//!               record   what is recorded: values, identities, columns, samples, ledger; no I/O
//! ```
//!
//! To follow one value, begin at `/proc/PID/stat`: `source::stat` parses it, `observer::table` keeps it,
//! `observer::samplers::ps` makes a row of it, `journal::changes` decides whether that row says anything new,
//! `journal::text` writes it, and `journal::reader` reads it back. To follow an event, begin at `source::connector`: the thread
//! of `observer::drain` takes it from the socket, `observer::lifecycle` changes the table by it and writes the obituary of
//! whoever ended, `observer::samplers::{events, exits}` make rows, and `journal::writer` flushes them.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod journal;
pub mod observer;
pub mod record;
pub mod source;
