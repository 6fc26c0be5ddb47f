//! Storms at the machine's limit: what they lose, what they cost, and how much of their own speed they keep.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::psmond::Way;
use crate::rivals::{self, Rival};
use crate::table::{NONE, Table, Target};
use crate::worker::Kind;
use crate::{Bench, Storm, Watched, median, say};

/// Events are received and counted, and hardly ever written.
const ROWS_OFF: &str = "[events]\nenabled = true\nkinds = [\"core\"]\n[exits]\nenabled = false\n";
/// Above 2000 a second those that are alike share a row.
const OBITUARIES: &str = "[events]\nenabled = false\n[exits]\nenabled = true\n";
/// A row for every life.
pub(crate) const EACH_ITS_ROW: &str = "[events]\nenabled = false\n[exits]\nenabled = true\nmax_rows_per_s = 1000000\n";

/// Over all rounds: what must not be, and what each round measured.
#[derive(Debug, Default)]
struct Account {
    children: u64,
    /// By seq gaps, and by the kernel's own counter of births.
    lost: u64,
    unseen: i64,
    /// Children without an obituary; negative where one has two.
    missing: i64,
    folded: u64,
    /// Microseconds of CPU per child.
    cpu: Vec<f64>,
    /// Children a second with psmond, without (two for each with), and the share kept.
    speed: Vec<f64>,
    alone: Vec<f64>,
    kept: Vec<f64>,
    peak_mb: f64,
}

impl Account {
    /// `beside`: the same storm without psmond, just before and just after.
    fn add(&mut self, stream: &str, watched: &Watched, beside: [&Storm; 2]) -> Result<()> {
        let children = watched.storm.children();
        let (mut lives, mut folded) = (0, 0);
        let tick = watched.logs.read(stream, |row| {
            if watched.storm.made_by(row.pid("ppid")) {
                let count = row.number("lives").unwrap_or(1);
                lives += count;
                folded += u64::from(count > 1);
            }
        })?;
        self.children += children;
        self.lost += tick.get("lost")?;
        self.unseen += tick.get("births_kernel")?.cast_signed() - tick.get("births")?.cast_signed();
        self.missing += children.cast_signed() - lives.cast_signed();
        self.folded += folded;
        self.cpu.push(watched.cpu.as_secs_f64() * 1e6 / children as f64);
        let alone = beside.map(Storm::a_second);
        self.speed.push(watched.storm.a_second());
        self.alone.extend(alone);
        self.kept.push(watched.storm.a_second() / f64::midpoint(alone[0], alone[1]));
        self.peak_mb = self.peak_mb.max(watched.peak_mb);
        Ok(())
    }

    /// The speeds behind a share: where those without psmond are far apart, others used the machine.
    fn speeds(&self) -> String {
        let least = self.alone.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.alone.iter().copied().fold(0.0, f64::max);
        let own = median(self.speed.clone()).unwrap_or_default();
        format!("{own:.0} children a second, without psmond {least:.0} to {most:.0}")
    }

    fn completeness(&self, table: &mut Table, name: &str) {
        table.add(format!("{name}: events lost"), self.lost as f64).target(NONE).note(format!("{} children", self.children));
        table
            .add(format!("{name}: births the kernel counted and psmond did not see"), self.unseen as f64)
            .target(NONE)
            .note("births_kernel - births of the last #tick");
    }

    fn obituaries(&self, table: &mut Table, name: &str) {
        table
            .add(format!("{name}: lives without an obituary"), self.missing as f64)
            .target(NONE)
            .note(format!("{} children; {} rows stand for more than one", self.children, self.folded));
    }
}

impl Bench {
    pub(crate) fn vfork(&self, table: &mut Table) -> Result<()> {
        let kinds = [Kind::Vfork(self.length()), Kind::Vfork(self.length())];
        let alone = [Kind::Vfork(self.length() / 2), Kind::Vfork(self.length() / 2)];
        let (mut off, mut on) = (Account::default(), Account::default());
        for _ in 0..self.rounds {
            say("vfork: alone");
            let before = self.storm(&alone, None)?;
            say("vfork: psmond, rows off");
            let rows_off = self.watched(ROWS_OFF, Way::Plain, &kinds)?;
            say("vfork: alone");
            let between = self.storm(&alone, None)?;
            say("vfork: psmond, obituaries");
            let obituaries = self.watched(OBITUARIES, Way::Plain, &kinds)?;
            say("vfork: alone");
            let after = self.storm(&alone, None)?;
            off.add("events", &rows_off, [&before, &between])?;
            on.add("exits", &obituaries, [&between, &after])?;
        }
        off.completeness(table, "vfork, rows off");
        // Two of a child: its birth and its death.
        let event = median(off.cpu.iter().map(|us| us / 2.0).collect());
        table.add("vfork, rows off: CPU, us per event", event).target(Target::AtMost(3.0));
        table.add("vfork, rows off: share of its speed kept", median(off.kept.clone())).target(Target::AtLeast(0.5)).note(off.speeds());
        on.completeness(table, "vfork, obituaries");
        on.obituaries(table, "vfork, obituaries");
        table
            .add("vfork, obituaries: CPU, us per life", median(on.cpu.clone()))
            .target(Target::AtMost(8.0))
            .note(format!("resident at most {:.1} MB", on.peak_mb));
        table.add("vfork, obituaries: share of its speed kept", median(on.kept.clone())).target(Target::AtLeast(0.5)).note(on.speeds());
        Ok(())
    }

    pub(crate) fn fork(&self, table: &mut Table) -> Result<()> {
        let (program, note) = tiny_program(self.work.path())?;
        let fork = |length| Kind::Fork(length);
        let fork_exec = |length| Kind::ForkExec(length, program.clone());
        self.each_its_row(table, "fork+exit", "", &fork)?;
        self.each_its_row(table, "fork+exec", note, &fork_exec)
    }

    /// psmond and forkstat in turn over the same storm.
    fn each_its_row(&self, table: &mut Table, name: &str, note: &str, kind: &dyn Fn(std::time::Duration) -> Kind) -> Result<()> {
        let kinds = [kind(self.length()), kind(self.length())];
        let alone = [kind(self.length() / 2), kind(self.length() / 2)];
        let mut account = Account::default();
        let mut rival: Result<Vec<Rival>> = Ok(Vec::new());
        let mut rival_kept = Vec::new();
        for _ in 0..self.rounds {
            say(&format!("{name}: alone"));
            let before = self.storm(&alone, None)?;
            say(&format!("{name}: psmond"));
            let watched = self.watched(EACH_ITS_ROW, Way::Plain, &kinds)?;
            say(&format!("{name}: alone"));
            let between = self.storm(&alone, None)?;
            account.add("exits", &watched, [&before, &between])?;
            if let Ok(had) = &mut rival {
                say(&format!("{name}: forkstat"));
                match rivals::forkstat(self, &kinds) {
                    Ok(one) => {
                        say(&format!("{name}: alone"));
                        let after = self.storm(&alone, None)?;
                        rival_kept.push(one.storm.a_second() / f64::midpoint(between.a_second(), after.a_second()));
                        had.push(one);
                    }
                    Err(error) => rival = Err(error),
                }
            }
            crate::stopped()?;
        }
        account.completeness(table, name);
        account.obituaries(table, name);
        table.add(format!("{name}: rows that stand for more than one life"), account.folded as f64).target(NONE);
        let cpu = median(account.cpu.clone());
        table.add(format!("{name}: CPU, us per life"), cpu).note(format!("resident at most {:.1} MB", account.peak_mb));
        let kept = median(account.kept.clone());
        let note = [account.speeds().as_str(), note].join(if note.is_empty() { "" } else { "; " });
        table.add(format!("{name}: share of its speed kept"), kept).target(Target::AtLeast(0.75)).note(note);
        match rival {
            Ok(runs) => {
                let rival_cpu = median(runs.iter().map(Rival::us_per_child).collect());
                let (exits, children) = runs.iter().fold((0, 0), |sum, one| (sum.0 + one.exits, sum.1 + one.storm.children()));
                table
                    .add(format!("{name}:   forkstat, CPU, us per life"), rival_cpu)
                    .note(format!("{exits} exits in its file, of {children} children and a few others"));
                table.add(format!("{name}:   forkstat, share of its speed kept"), median(rival_kept.clone()));
                let ratio = |own: Option<f64>, other: Option<f64>| Some(own? / other?);
                table.add(format!("{name}:   CPU, psmond / forkstat"), ratio(cpu, rival_cpu));
                table.add(format!("{name}:   speed kept, psmond / forkstat"), ratio(kept, median(rival_kept)));
            }
            Err(error) => {
                table.add(format!("{name}:   forkstat"), None).note(format!("{error:#}"));
            }
        }
        Ok(())
    }
}

/// A program that does nothing but `_exit(0)`, so that a storm of it is one of fork and exec and not of a dynamic linker.
fn tiny_program(work: &Path) -> Result<(PathBuf, &'static str)> {
    if !cfg!(target_arch = "x86_64") {
        return Ok((PathBuf::from("/bin/true"), "of /bin/true"));
    }
    // xor %edi,%edi; mov $60,%eax; syscall
    const CODE: &[u8] = &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let length = HEADERS + CODE.len() as u64;
    // elf(5): 64 bits, little endian, version 1; then one executable segment, this whole file.
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |values: &[u16], file: &mut Vec<u8>| values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    // ET_EXEC, EM_X86_64, version 1
    half(&[2, 62, 1, 0], &mut file);
    for long in [BASE + HEADERS, 64, 0] {
        file.extend(long.to_le_bytes());
    }
    // flags; sizes of this header and of one of the 1 program headers; no sections
    half(&[0, 0, 64, 56, 1, 0, 0, 0], &mut file);
    // PT_LOAD, readable and executable
    half(&[1, 0, 5, 0], &mut file);
    for long in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(long.to_le_bytes());
    }
    file.extend(CODE);
    let path = work.join("nothing");
    fs::write(&path, file)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    // A directory for temporary files may be mounted noexec.
    match std::process::Command::new(&path).status() {
        Ok(status) if status.success() => Ok((path, "of a program that is nothing but _exit(0)")),
        _ => Ok((PathBuf::from("/bin/true"), "of /bin/true")),
    }
}
