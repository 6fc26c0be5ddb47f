//! The kernel in miniature: processes and tasks are born, execute and end in any order, and tell it late.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::observer::readers::Readers;
use crate::observer::samplers::{events, exits};
use crate::record::cmd::Cmd;
use crate::record::flush::TimedRow;
use crate::record::schema::Columns;
use crate::record::scrub::{Args, Scrubber};
use crate::record::stream::Stream;
use crate::record::value::Value;
use crate::source::clock::Wall;
use crate::source::procdir::Proc;

/// What the miniature may do next; numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Fork(usize),
    Clone(usize),
    /// A task executes: all others of its process end, and it takes over the first one's id, before or after that tells its end.
    Exec(usize, usize, bool),
    /// A task ends.
    End(usize, usize),
    /// An exit event that was held back is told.
    Tell(usize),
    /// Drain hands over what it has.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<usize>().prop_map(Step::Fork),
        3 => any::<usize>().prop_map(Step::Clone),
        2 => any::<(usize, usize, bool)>().prop_map(|(process, task, late)| Step::Exec(process, task, late)),
        5 => any::<(usize, usize)>().prop_map(|(process, task)| Step::End(process, task)),
        4 => any::<usize>().prop_map(Step::Tell),
        2 => Just(Step::Cut),
    ]
}

struct Living {
    pid: u32,
    start: u64,
    code: u32,
    tasks: Vec<u32>,
}

/// A life as it was: what its obituary must say.
type Life = (u32, u64, u32);

struct Kernel {
    now_ns: u64,
    next: u32,
    living: Vec<Living>,
    /// Exit events not yet told, in the order in which each process's ended.
    held: VecDeque<Event>,
    ended: Vec<Life>,
    batch: Batch,
    batches: Vec<Batch>,
}

const FIRST: u32 = 100_000;
const TICK_NS: u64 = 10_000_000;

impl Kernel {
    fn new() -> Self {
        let first = Living { pid: FIRST, start: 0, code: 0, tasks: vec![FIRST] };
        Self {
            now_ns: TICK_NS,
            next: FIRST + 1,
            living: vec![first],
            held: VecDeque::new(),
            ended: Vec::new(),
            batch: Batch::default(),
            batches: Vec::new(),
        }
    }

    fn event(&self, what: What) -> Event {
        Event { seq: 0, ack: 0, cpu: 0, time_ns: self.now_ns, what }
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// A task ends: its record is sent at once, its event when it is told.
    fn end(&mut self, at: usize, task: u32, last: bool) {
        let living = &self.living[at];
        let flag = if last { 0x20 } else { 0 };
        self.batch.records.push(record(task, flag));
        let what = What::Exit { task: Task { task, pid: living.pid }, code: living.code, signal: 17, parent: None };
        let event = self.event(what);
        self.held.push_back(event);
    }

    fn take(&mut self, step: Step) {
        self.now_ns += TICK_NS;
        let processes = self.living.len();
        match step {
            Step::Fork(parent) => {
                let pid = self.id();
                let parent = self.living[parent % processes].pid;
                let child = Living { pid, start: self.now_ns / TICK_NS, code: (pid % 3) << 8, tasks: vec![pid] };
                let what = What::Fork { parent: Task { task: parent, pid: parent }, child: Task { task: pid, pid } };
                self.batch.events.push(self.event(what));
                self.living.push(child);
            }
            Step::Clone(process) => {
                let task = self.id();
                let living = &mut self.living[process % processes];
                living.tasks.push(task);
                let pid = living.pid;
                let what = What::Fork { parent: Task { task: 1, pid: 1 }, child: Task { task, pid } };
                self.batch.events.push(self.event(what));
            }
            Step::Exec(process, task, late) => {
                let at = process % processes;
                let (pid, tasks) = (self.living[at].pid, self.living[at].tasks.clone());
                let executes = tasks[task % tasks.len()];
                for other in tasks.into_iter().filter(|other| *other != executes) {
                    self.end(at, other, false);
                    let Some(first) = self.held.back_mut().filter(|_| other == pid) else { continue };
                    if late {
                        // It ends under the id of the one that executes, at any time.
                        if let What::Exit { task, .. } = &mut first.what {
                            task.task = executes;
                        }
                    } else {
                        self.batch.events.extend(self.held.pop_back());
                    }
                }
                // The id of the one that executes is never told to have ended: it has the first one's from now on.
                self.living[at].tasks = vec![pid];
                self.batch.events.push(self.event(What::Exec(Task { task: pid, pid })));
            }
            Step::End(process, task) => {
                let at = process % processes;
                let count = self.living[at].tasks.len();
                if at == 0 && count == 1 {
                    return;
                }
                let task = self.living[at].tasks.remove(task % count);
                self.end(at, task, count == 1);
                if count == 1 {
                    let Living { pid, start, code, .. } = self.living.remove(at);
                    self.ended.push((pid, start, code));
                }
            }
            Step::Tell(which) => {
                if !self.held.is_empty() {
                    let event = self.held.remove(which % self.held.len()).unwrap();
                    self.batch.events.push(event);
                }
            }
            Step::Cut => {
                self.batch.taken_ns = self.now_ns;
                self.batches.push(std::mem::take(&mut self.batch));
            }
        }
    }

    fn finish(mut self) -> (Vec<Batch>, Vec<Life>) {
        while self.living.len() > 1 {
            let at = self.living.len() - 1;
            self.take(Step::End(at, 0));
        }
        while !self.held.is_empty() {
            self.take(Step::Tell(0));
        }
        self.take(Step::Cut);
        (self.batches, self.ended)
    }
}

fn record(task: u32, flag: u8) -> Record {
    Record {
        is_process: false,
        id: task,
        version: 16,
        exit_code: 0,
        flag,
        comm: *b"miniature\0\0\0\0\0\0\0",
        uid: 0,
        ppid: 0,
        cpu_ns: 1000,
        user_us: 0,
        system_us: 0,
        elapsed_us: 1,
        min_flt: 1,
        maj_flt: 0,
        peak_rss: 4096,
        rchar: 0,
        wchar: 0,
        syscr: 0,
        syscw: 0,
        read_bytes: 0,
        write_bytes: 0,
        cancelled_write_bytes: 0,
        nvcsw: 0,
        nivcsw: 0,
        tgid: None,
    }
}

fn world() -> World {
    let root = tempfile::tempdir().unwrap();
    let proc = Arc::new(Proc::open(root.path()).unwrap());
    let readers = Readers::start(Arc::clone(&proc), Box::new(|| ()));
    let mut world = World::new(proc, readers, Scrubber::new(Args::Full, []).unwrap(), 0);
    world.machine.hz = 100;
    world.hears = true;
    let first = crate::source::stat::Stat { pid: FIRST, state: b'S', start: 5, num_threads: 1, ..Default::default() };
    world.table.insert(Process::new(first, b"first", None));
    world
}

fn streams() -> (Events, Exits) {
    let events = events::Selection {
        kinds: EventKind::WORDS.iter().map(|(_, kind)| *kind).collect(),
        max_rows_per_s: u32::MAX,
        include: Vec::new(),
        exclude: Vec::new(),
        columns: Columns::standard(Stream::Events),
    };
    let exits = exits::Selection { max_rows_per_s: u32::MAX, columns: Columns::standard(Stream::Exits) };
    (Events::new(Some(events)), Exits::new(Some(exits)))
}

/// Lets a lifecycle hear all of it; the rows of both streams.
fn told(batches: Vec<Batch>, flush_between: bool) -> (World, Vec<TimedRow>, Vec<TimedRow>) {
    let mut world = world();
    let (mut events, mut exits) = streams();
    let mut lifecycle = Lifecycle::default();
    let mut wall = Wall::default();
    let (mut event_rows, mut exit_rows) = (Vec::new(), Vec::new());
    for batch in batches {
        let mut telling = Telling { events: &mut events, exits: &mut exits };
        lifecycle.hear(&mut world, &batch, &mut telling);
        if flush_between {
            lifecycle.flush(&mut world, &mut telling);
            exit_rows.extend(exits.rows(&lifecycle.argvs, &world.names, &mut wall, true));
        }
    }
    lifecycle.flush(&mut world, &mut Telling { events: &mut events, exits: &mut exits });
    event_rows.extend(events.rows(&lifecycle.argvs, &world.names, &world.terminals, &mut wall, true));
    exit_rows.extend(exits.rows(&lifecycle.argvs, &world.names, &mut wall, true));
    (world, event_rows, exit_rows)
}

fn number(columns: &Columns, row: &TimedRow, name: &str) -> i64 {
    row.values[columns.position(name).unwrap() - 1].number().unwrap_or(-1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    // Whatever the order of births, executions and ends, and however late an end is told: one obituary for each process that
    // ended, with its identity and status, and none for one that lives; one `exit` row likewise.
    #[test]
    fn each_life_has_one_obituary(steps in proptest::collection::vec(step(), 1..120), flush_between: bool) {
        let mut kernel = Kernel::new();
        for step in steps {
            kernel.take(step);
        }
        let (batches, mut ended) = kernel.finish();
        let (world, events, exits) = told(batches, flush_between);
        let columns = Columns::standard(Stream::Exits);
        let mut obituaries: Vec<Life> = exits
            .iter()
            .map(|row| {
                let of = |name| u64::try_from(number(&columns, row, name)).unwrap();
                (u32::try_from(of("pid")).unwrap(), of("start"), u32::try_from(of("raw")).unwrap())
            })
            .collect();
        ended.sort_unstable();
        obituaries.sort_unstable();
        prop_assert_eq!(obituaries, ended.clone());
        let columns = Columns::standard(Stream::Events);
        let mut rows: BTreeMap<i64, u32> = BTreeMap::new();
        let event = columns.position("event").unwrap() - 1;
        for row in events.iter().filter(|row| matches!(&row.values[event], Value::Word(word) if **word == *b"exit")) {
            *rows.entry(number(&columns, row, "pid")).or_default() += 1;
        }
        prop_assert!(rows.values().all(|count| *count == 1));
        prop_assert_eq!(rows.len(), ended.len());
        prop_assert_eq!(world.table.iter().map(|process| process.id.pid).collect::<Vec<_>>(), [FIRST]);
    }
}

#[test]
fn a_life_through_a_suspend_is_as_long_as_boot_time_says() {
    // Born before the machine slept for an hour, ended a second after: the stamps do not know of the hour, the offsets do.
    const S: u64 = 1_000_000_000;
    let event = |time_ns, what| Event { seq: 0, ack: 0, cpu: 0, time_ns, what };
    let pid = FIRST + 1;
    let fork = What::Fork { parent: Task { task: FIRST, pid: FIRST }, child: Task { task: pid, pid } };
    let exit = What::Exit { task: Task { task: pid, pid }, code: 0, signal: 17, parent: None };
    let before = Batch { events: vec![event(10 * S, fork)], ..Batch::default() };
    let slept = Offsets { wall: 0, boot: 3600 * S };
    let after = Batch { events: vec![event(11 * S, exit)], records: vec![record(pid, 0x20)], offsets: slept, ..Batch::default() };
    let (_, events, exits) = told(vec![before, after], false);
    let columns = Columns::standard(Stream::Exits);
    assert_eq!(number(&columns, &exits[0], "lifetime_s"), 3_601_000_000);
    let columns = Columns::standard(Stream::Events);
    assert_eq!(number(&columns, events.last().unwrap(), "duration_s"), 3_601_000_000);
}

#[test]
fn without_a_record_the_only_task_is_the_last_one() {
    let mut kernel = Kernel::new();
    kernel.take(Step::Fork(0));
    let (mut batches, ended) = kernel.finish();
    batches.iter_mut().for_each(|batch| batch.records.clear());
    let (_, _, exits) = told(batches, false);
    assert_eq!((exits.len(), ended.len()), (1, 1));
    // What only a record says is not known.
    let columns = Columns::standard(Stream::Exits);
    assert_eq!(exits[0].values[columns.position("max_rss").unwrap() - 1], Value::Absent);
    assert_eq!(exits[0].values[columns.position("cpu_s").unwrap() - 1], Value::Absent);
}

#[test]
fn a_record_whose_event_was_lost_is_not_the_next_owners() {
    let pid = FIRST + 1;
    let event = |time_ns, what| Event { seq: 0, ack: 0, cpu: 0, time_ns, what };
    let fork = What::Fork { parent: Task { task: FIRST, pid: FIRST }, child: Task { task: pid, pid } };
    let exit = What::Exit { task: Task { task: pid, pid }, code: 0x700, signal: 17, parent: None };
    // A thread had the id; its exit event never came. Its record says that it was not the last.
    let stale = Batch { records: vec![Record { cpu_ns: 9_000_000, ..record(pid, 0) }], taken_ns: 5, ..Batch::default() };
    let life = Batch { events: vec![event(10, fork), event(20, exit)], records: vec![record(pid, 0x20)], taken_ns: 30, ..Batch::default() };
    let (_, _, exits) = told(vec![stale, life], false);
    let columns = Columns::standard(Stream::Exits);
    assert_eq!(exits.len(), 1);
    assert_eq!((number(&columns, &exits[0], "code"), number(&columns, &exits[0], "cpu_s")), (7, 1));
}

#[test]
fn arguments_come_before_or_after_their_execution() {
    let pid = FIRST + 1;
    let event = |time_ns, what| Event { seq: 0, ack: 0, cpu: 0, time_ns, what };
    let fork = What::Fork { parent: Task { task: FIRST, pid: FIRST }, child: Task { task: pid, pid } };
    let exec = What::Exec(Task { task: pid, pid });
    let captured = |time_ns| Captured {
        pid,
        time_ns,
        cmd: Ok(Cmd::from_args([b"new".as_slice()], 0)),
        exe: Ok(b"/bin/new".to_vec()),
        comm: Some(b"new".as_slice().into()),
    };
    for early in [true, false] {
        let mut world = world();
        let (mut events, mut exits) = streams();
        let mut lifecycle = Lifecycle::default();
        if early {
            lifecycle.capture(&mut world, [captured(20)].into_iter());
        }
        let batch = Batch { events: vec![event(10, fork), event(20, exec)], ..Batch::default() };
        lifecycle.hear(&mut world, &batch, &mut Telling { events: &mut events, exits: &mut exits });
        // Those of another execution are not taken for them.
        lifecycle.capture(&mut world, [captured(15)].into_iter());
        assert_eq!(world.table.get(pid).unwrap().life.exec.is_none(), early);
        if !early {
            lifecycle.capture(&mut world, [captured(20)].into_iter());
        }
        let process = world.table.get(pid).unwrap();
        assert_eq!((process.facts.program.known().map(|program| &**program), &*process.comm), (Some(&b"new"[..]), &b"new"[..]));
        let rows = events.rows(&lifecycle.argvs, &world.names, &world.terminals, &mut Wall::default(), true);
        let columns = Columns::standard(Stream::Events);
        let sources = &rows.last().unwrap().values[columns.position("sources").unwrap() - 1];
        assert_eq!(*sources, Value::word(b"cai"));
    }
    assert!(!Path::new("/bin/new").exists(), "it was never run");
}

#[test]
fn who_changes_his_name_in_a_loop_is_asked_about_twice_and_his_obituary_has_the_last_one() {
    use crate::config::rules::{Fact, Matcher, NamePart, NameTemplate, ProgramRule};
    use crate::observer::programs::Programs;
    let rule = |comm: Option<&str>, cmd: Option<String>, part: NamePart| ProgramRule {
        name: NameTemplate { parts: vec![part] },
        exe: None,
        comm: comm.map(|comm| Matcher::Glob(comm.to_owned())),
        cmd,
        user: None,
        cgroup: None,
        unit: None,
        expect: None,
        children: false,
        multi: false,
        place: None,
    };
    let many: Vec<ProgramRule> = (0..1000).map(|at| rule(None, Some(format!("service-{at} ")), NamePart::Text(format!("s{at}")))).collect();
    let names = [&many[..], &[rule(Some("loop-*"), None, NamePart::Fact(Fact::Comm))]].concat();
    for (rules, most) in [(many, 0), (names, 2)] {
        let mut world = world();
        world.programs = Arc::new(Programs::new(&rules, &[]));
        world.table.get_mut(FIRST).unwrap().facts.exe = Reading::Known(b"/bin/first".as_slice().into());
        world.classify(FIRST);
        world.asked = 0;
        let (mut events, mut exits) = streams();
        let mut telling = Telling { events: &mut events, exits: &mut exits };
        let task = Task { task: FIRST, pid: FIRST };
        let name = |at: u32| {
            let mut name = [0; 16];
            let text = format!("loop-{at}");
            name[..text.len()].copy_from_slice(text.as_bytes());
            name
        };
        let mut batch = Batch::default();
        let event = |what: What| Event { seq: 0, ack: 0, cpu: 0, time_ns: TICK_NS, what };
        batch.events.extend((0..10_000).map(|at| event(What::Comm(task, name(at)))));
        let mut lifecycle = Lifecycle::default();
        lifecycle.hear(&mut world, &batch, &mut telling);
        assert_eq!(world.asked, most);
        let program = |world: &World| world.table.get(FIRST).unwrap().facts.program.known().cloned();
        let want: &[u8] = if most == 0 { b"first" } else { b"loop-9999" };
        assert_eq!(program(&world).as_deref(), Some(want));
        // It ends in the batch in which it had two more names.
        batch.events.truncate(7);
        batch.events.push(event(What::Exit { task, code: 0, signal: 17, parent: None }));
        lifecycle.hear(&mut world, &batch, &mut telling);
        let want: &[u8] = if most == 0 { b"first" } else { b"loop-6" };
        assert_eq!(program(&world).as_deref(), Some(want));
    }
}
