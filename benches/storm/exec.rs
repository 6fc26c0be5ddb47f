//! A storm of /bin/true, each with an argument of its own: every fork, exec and exit, the true parent, the arguments.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::listener::Listener;
use crate::psmond::{CpuGroup, Way};
use crate::table::{NONE, Table, Target};
use crate::worker::{Kind, argument};
use crate::{Bench, Storm, Watched, say};

const WORKERS: u64 = 4;
const PROGRAM: &str = "/bin/true";
const STREAMS: &str = "\
[events]\nenabled = true\nkinds = [\"fork\", \"exec\", \"exit\"]\nmax_rows_per_s = 1000000\n\
[exits]\nenabled = true\nmax_rows_per_s = 1000000\n";

/// The kinds of rows that each child has: three in `events`, one in `exits`.
const ROWS: [&str; 4] = ["fork row", "exec row", "exit row", "obituary"];

/// A row about a pid that may be a child of ours.
#[derive(Debug)]
struct Seen {
    ppid: Option<u32>,
    argv_was_read: bool,
    cmd: String,
}

/// What psmond knew of the children.
#[derive(Debug, Default)]
struct Known {
    children: u64,
    missing: [u64; ROWS.len()],
    wrong_parent: u64,
    arguments: u64,
    /// Said to be read at exec, and not those of this child.
    wrong_arguments: u64,
    lost: u64,
}

impl Known {
    fn of(watched: &Watched, tag: &str) -> Result<Self> {
        let mut rows: [HashMap<u32, Vec<Seen>>; ROWS.len()] = Default::default();
        let mut keep = |kind: usize, row: &crate::journal::Row<'_>| {
            if let Some(pid) = row.pid("pid") {
                let cmd = row.get("cmd").unwrap_or_default().to_owned();
                let seen = Seen { ppid: row.pid("ppid"), argv_was_read: row.argv_was_read(), cmd };
                rows[kind].entry(pid).or_default().push(seen);
            }
        };
        let tick = watched.logs.read("events", |row| match row.get("event") {
            Some("fork") => keep(0, row),
            Some("exec") => keep(1, row),
            Some("exit") => keep(2, row),
            _ => {}
        })?;
        watched.logs.read("exits", |row| keep(3, row))?;
        let mut known = Known { children: watched.storm.children(), lost: tick.get("lost")?, ..Known::default() };
        for (number, report) in watched.storm.reports.iter().enumerate() {
            for (pid, child) in &report.each {
                let cmd = format!("{PROGRAM} {}", argument(&tag_of(tag, number), *child));
                let mut argv = false;
                for (kind, rows) in rows.iter_mut().enumerate() {
                    match take(rows.get_mut(pid), report.worker, &cmd) {
                        Ok(seen) if kind == 1 || kind == 3 => {
                            argv |= seen.argv_was_read && seen.cmd == cmd;
                            known.wrong_arguments += u64::from(seen.argv_was_read && seen.cmd != cmd);
                        }
                        Ok(_) => {}
                        Err(Why::Missing) => known.missing[kind] += 1,
                        Err(Why::Parent) => known.wrong_parent += 1,
                    }
                }
                known.arguments += u64::from(argv);
            }
        }
        Ok(known)
    }

    fn share(&self) -> f64 {
        self.arguments as f64 / self.children as f64
    }

    fn wrong(&self) -> u64 {
        self.missing.iter().sum::<u64>() + self.wrong_parent + self.wrong_arguments
    }
}

/// Why a child has no row of a kind.
#[derive(Clone, Copy, Debug)]
enum Why {
    Missing,
    /// There is one of its pid, but of another parent than the true one.
    Parent,
}

/// The row of this child: pids come round again, so the one with its arguments before any other.
fn take(rows: Option<&mut Vec<Seen>>, worker: u32, cmd: &str) -> Result<Seen, Why> {
    let rows = rows.filter(|rows| !rows.is_empty()).ok_or(Why::Missing)?;
    let ours = |seen: &Seen| seen.ppid == Some(worker);
    let at = rows.iter().position(|seen| ours(seen) && seen.cmd == cmd).or_else(|| rows.iter().position(ours));
    at.map(|at| rows.swap_remove(at)).ok_or(Why::Parent)
}

fn tag_of(tag: &str, worker: usize) -> String {
    format!("{tag}{worker}")
}

impl Bench {
    pub(crate) fn exec(&self, table: &mut Table) -> Result<()> {
        let children = self.seconds * 1000;
        let kinds = |tag: &str| -> Vec<Kind> {
            (0..WORKERS).map(|worker| Kind::Exec(children / WORKERS, PathBuf::from(PROGRAM), tag_of(tag, worker as usize))).collect()
        };
        say("exec: psmond as it is");
        let watched = self.watched(STREAMS, Way::Plain, &kinds("fifo"))?;
        let known = Known::of(&watched, "fifo")?;
        let rate = format!("of {} children, {:.0} a second", known.children, watched.storm.a_second());
        for (kind, missing) in ROWS.iter().zip(known.missing) {
            table.add(format!("exec: children without {kind}"), missing as f64).target(NONE).note(&rate);
        }
        table.add("exec: rows with another parent than the true one", known.wrong_parent as f64).target(NONE);
        table.add("exec: rows with arguments of somebody else", known.wrong_arguments as f64).target(NONE);
        table.add("exec: events lost", known.lost as f64).target(NONE);
        table.add("exec: CPU, us per child", watched.cpu.as_secs_f64() * 1e6 / known.children as f64);
        // Other arguments than these are another question, and have a row of their own.
        let real_time = watched.urgent.iter().any(|thread| thread.ends_with("SCHED_FIFO"));
        table.add("exec: arguments known, SCHED_FIFO", real_time.then(|| known.share())).target(Target::AtLeast(0.98)).note(if real_time {
            watched.urgent.join(", ")
        } else {
            format!("{:.3}, but without it: {}", known.share(), threads(&watched))
        });

        say("exec: psmond where real-time is refused");
        match CpuGroup::make() {
            Ok(group) => {
                let watched = self.watched(STREAMS, Way::Group(group.path()), &kinds("nice"))?;
                variant(table, "nice -20", &watched, "nice", Some(Target::AtLeast(0.85)))?;
            }
            Err(error) => {
                table.add("exec: arguments known, nice -20", None).target(Target::AtLeast(0.85)).note(format!("{error:#}"));
            }
        }

        say("exec: psmond without CAP_SYS_NICE");
        match self.watched(STREAMS, Way::Without("sys_nice"), &kinds("none")) {
            Ok(watched) => variant(table, "without CAP_SYS_NICE", &watched, "none", None)?,
            Err(error) => {
                crate::stopped()?;
                table.add("exec: arguments known, without CAP_SYS_NICE", None).note(format!("{error:#}"));
            }
        }

        say("exec: a plain listener");
        let listener = Listener::start(true)?;
        let storm = self.storm(&kinds("plain"), None)?;
        let heard = listener.stop()?;
        let plain = arguments_heard(&storm, "plain", &heard.arguments);
        table
            .add("exec:   arguments known to a plain listener", plain as f64 / storm.children() as f64)
            .note("a thread at normal priority that reads cmdline at each exec");
        Ok(())
    }
}

fn threads(watched: &Watched) -> String {
    if watched.urgent.is_empty() { "all threads at normal priority".to_owned() } else { watched.urgent.join(", ") }
}

fn variant(table: &mut Table, name: &str, watched: &Watched, tag: &str, target: Option<Target>) -> Result<()> {
    let known = Known::of(watched, tag)?;
    table.add(format!("exec: rows missing or wrong, {name}"), known.wrong() as f64).target(NONE);
    let entry = table.add(format!("exec: arguments known, {name}"), known.share()).note(threads(watched));
    if let Some(target) = target {
        entry.target(target);
    }
    Ok(())
}

/// How many of the children are among the arguments read.
fn arguments_heard(storm: &Storm, tag: &str, heard: &[Vec<u8>]) -> usize {
    let heard: std::collections::HashSet<&[u8]> = heard.iter().map(Vec::as_slice).collect();
    let known = |number: usize, child: u64| {
        let argv = format!("{PROGRAM}\0{}\0", argument(&tag_of(tag, number), child));
        heard.contains(argv.as_bytes())
    };
    let of = |(number, report): (usize, &crate::worker::Report)| report.each.iter().filter(|each| known(number, each.1)).count();
    storm.reports.iter().enumerate().map(of).sum()
}
