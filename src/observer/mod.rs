//! The observer owns the one table of live processes. Samplers read from it and add to it; there is no
//! second cache of processes anywhere.
//!
//! * [`table`]: the processes, each with its identity, facts and last counters.
//! * [`world`]: the table and all it takes to fill it; `answers`: taking in what the readers brought.
//! * [`round`]: one tick's work on the table: who was born, who ended, who ran, what must be read again.
//! * [`facts`]: what is known of a process besides its counters, and how it is asked for.
//! * [`readers`]: the threads that do the reads which may wait for a target, each with a deadline.
//! * [`drain`], [`capture`]: the threads that hear the kernel and read arguments at exec.
//! * [`lifecycle`]: from events to the table, and to [`obituary`]; [`life`]: what a process is remembered by for that.
//! * [`records`]: exit records whose event is still to come; [`argvs`]: what was read at executions.
//! * [`recorder`]: the streams that hear, from the threads to what is flushed.
//! * [`kept`]: files of a process that are kept open.
//! * [`names`]: names of users and groups.
//! * [`programs`]: rules, compiled, and which program a process counts for.
//! * [`schedule`]: when a tick is due; [`beat`]: the ticks of one stream, and which of them are full.
//! * [`footprint`]: what is remembered of a process's memory, and whether to read it again; [`pass`]: the readings of a tick, spread
//!   over a window; [`due`]: who is to be considered; [`weight`]: the totals; [`weighing`]: stream `pss`, from its ticks to its samples.
//! * [`radar`]: how near processes are to their limits; [`cgroups`]: those of their control groups; [`crossings`]: who comes near.
//! * [`credits`]: who spent how much CPU time, and whose budget of it runs out.
//! * [`touched`]: whose row may have changed since a stream's sample before.
//! * [`usage`]: what is remembered of what a process uses, and how it is read; [`own_io`]: its io without its children's; [`accounts`]: what programs used, the dead included;
//!   [`metering`]: streams `usage` and `usage_process`, from a tick to its samples.
//! * `stuck`: who does not answer, said once, and that it is over.
//! * [`sockets`]: which sockets processes hold, and what they are.
//! * [`survey`]: one look at the memory of everyone, without a table; [`scan`]: names and memory of many, the shortest way.
//! * [`samplers`]: rows from the table.
//! * [`thread`]: the observer as others hold it; `event_loop`: what runs all of it, on a thread of its own.
//!
//! The observer's own thread reads only what takes no lock of a target (`stat` and the CPU clock); command
//! lines, executables, control groups and whatever else may wait are the readers'.

pub mod accounts;
mod answers;
pub mod argvs;
pub mod beat;
pub mod capture;
pub mod cgroups;
pub mod credits;
pub mod crossings;
pub mod drain;
pub mod due;
mod event_loop;
pub mod facts;
pub mod footprint;
pub mod kept;
pub mod life;
pub mod lifecycle;
pub mod metering;
pub mod names;
pub mod obituary;
pub mod own_io;
pub mod pass;
pub mod programs;
pub mod radar;
pub mod readers;
pub mod recorder;
pub mod records;
pub mod round;
pub mod samplers;
pub mod scan;
pub mod schedule;
pub mod shown;
pub mod sockets;
mod stuck;
pub mod survey;
pub mod table;
pub mod thread;
pub mod touched;
pub mod usage;
pub mod weighing;
pub mod weight;
pub mod world;
