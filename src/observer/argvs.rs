//! What was read at executions, for as long as rows wait for it.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::capture::Captured;
use super::facts::{Reading, program_of};
use super::life::{Exec, Sources};
use super::names::Names;
use super::programs::family::Family;
use super::programs::{Programs, Subject};
use super::table::Process;
use super::world::World;
use crate::record::cmd::Cmd;
use crate::source::ReadError;

/// What was read at an execution, as it may be recorded.
#[derive(Clone, Debug)]
pub struct Argv {
    /// The command line.
    pub cmd: Reading<Arc<Cmd>>,
    /// Path of the executable.
    pub exe: Reading<Arc<[u8]>>,
    /// The program it counts for where no rule says otherwise.
    pub program: Reading<Arc<[u8]>>,
    /// Its name.
    pub comm: Option<Arc<[u8]>>,
    /// A hash of what it really said.
    pub said: u64,
    /// What it really said, where program rules look at it.
    pub really: Option<Arc<Cmd>>,
}

/// Arguments that came before their execution was told, or that rows still wait for.
#[derive(Debug, Default)]
pub struct Argvs {
    now: FxHashMap<Exec, Argv>,
    /// Of the flush before: dropped at the next.
    before: FxHashMap<Exec, Argv>,
    /// Which program somebody counts for.
    pub programs: Arc<Programs>,
}

/// What else rules look at of a process that is gone and whose arguments came late.
#[derive(Debug)]
pub struct Whose<'a> {
    /// Its effective user.
    pub owner: &'a Reading<u32>,
    /// Path of its control group.
    pub cgroup: &'a Reading<Arc<[u8]>>,
    /// Its unit.
    pub unit: &'a Reading<Arc<[u8]>>,
    /// The family it was born into.
    pub family: Option<&'a Arc<Family>>,
    /// Names of users.
    pub names: &'a Names,
}

impl Argvs {
    /// Those of one execution.
    #[must_use]
    pub fn get(&self, exec: Exec) -> Option<&Argv> {
        self.now.get(&exec).or_else(|| self.before.get(&exec))
    }

    /// The program that somebody counted for with these arguments.
    #[must_use]
    pub fn program(&self, argv: &Argv, whose: &Whose<'_>) -> Reading<Arc<[u8]>> {
        if self.programs.is_plain() {
            return argv.program.clone();
        }
        let subject = Subject {
            comm: argv.comm.as_deref().unwrap_or_default(),
            exe: argv.exe.known().map(|exe| &**exe),
            cmd: argv.really.as_deref(),
            user: whose.owner.known().and_then(|uid| whose.names.known_user(*uid)),
            cgroup: whose.cgroup.known().map(|path| &**path),
            unit: whose.unit.known().map(|unit| &**unit),
            is_kthread: false,
        };
        if let Some(verdict) = self.programs.verdict(&subject) {
            return Reading::Known(verdict.program);
        }
        if let Some(family) = whose.family {
            return Reading::Known(Arc::clone(&family.program));
        }
        match argv.exe.known().zip(argv.really.as_deref()).and_then(|(exe, cmd)| self.programs.script(exe, cmd)) {
            Some(script) => Reading::Known(script.into()),
            None => argv.program.clone(),
        }
    }

    /// Keeps those of one execution.
    pub fn insert(&mut self, exec: Exec, argv: Argv) {
        /// With both streams off nobody flushes.
        const MOST: usize = 4000;
        if self.now.len() >= MOST {
            self.age();
        }
        self.now.insert(exec, argv);
    }

    /// What came before the last of these is dropped; once a second at most.
    pub fn age(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

/// What was read at an execution as it may be recorded; nothing where the process was gone.
pub(super) fn argv(captured: Captured, world: &World) -> Option<Argv> {
    if matches!((&captured.cmd, &captured.exe), (Err(ReadError::Vanished), Err(_))) {
        return None;
    }
    let (said, cmd, really) = match captured.cmd {
        Ok(cmd) => super::facts::recordable(cmd, &world.scrubber, world.programs.needs_cmd()),
        Err(ReadError::Vanished) => (0, Reading::Unread, None),
        Err(error) => (0, Reading::from_read(Err(error)), None),
    };
    let exe: Reading<Arc<[u8]>> = match captured.exe {
        Ok(exe) => Reading::Known(exe.into()),
        Err(ReadError::Vanished) => Reading::Unread,
        Err(error) => Reading::from_read(Err(error)),
    };
    // Gone before its name could be read: the kernel names a program after its file, which this is unless a script was executed.
    let named_after = |exe: &Reading<Arc<[u8]>>| {
        let name = program_of(exe.known()?);
        Some(name[..name.len().min(15)].into())
    };
    let comm: Option<Arc<[u8]>> = captured.comm.map(Into::into).or_else(|| named_after(&exe));
    let program = match (&exe, &comm) {
        (Reading::Known(exe), _) => Reading::Known(program_of(exe).into()),
        (Reading::Refused, Some(comm)) => Reading::Known(Arc::clone(comm)),
        _ => Reading::Unread,
    };
    Some(Argv { cmd, exe, program, comm, said, really })
}

/// Gives a process the arguments it waits for, if they came, and says whether they did.
pub(super) fn resolve(process: &mut Process, argvs: &Argvs) -> bool {
    let Some(argv) = process.life.exec.and_then(|exec| argvs.get(exec)) else { return false };
    apply(process, argv);
    true
}

/// Gives a process its arguments.
pub(super) fn apply(process: &mut Process, argv: &Argv) {
    process.facts.cmd = argv.cmd.clone();
    process.facts.exe = argv.exe.clone();
    process.facts.program = argv.program.clone();
    process.facts.said = argv.said;
    process.facts.really.clone_from(&argv.really);
    process.cmd_read_ns = crate::source::clock::monotonic_ns();
    if let Some(comm) = &argv.comm {
        process.comm = Arc::clone(comm);
    }
    if argv.cmd.known().is_some() {
        process.life.sources = process.life.sources.and(Sources::ARGUMENTS);
    }
    process.life.exec = None;
}
