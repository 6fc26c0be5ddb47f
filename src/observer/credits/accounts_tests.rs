use super::*;
use crate::observer::life::Life;
use crate::source::stat::{PF_KTHREAD, Stat};
use jiff::civil::date;
use proptest::prelude::*;

const HZ: u64 = 100;

fn process(pid: u32, program: &str, uid: u32) -> Process {
    let mut process = Process::new(Stat { pid, start: u64::from(pid), state: b'S', ..Stat::default() }, program.as_bytes(), None);
    process.facts.program = Reading::Known(program.as_bytes().into());
    process.facts.owner = Reading::Known(uid);
    process
}

fn key(program: &str, uid: u32) -> Key {
    (Whose::Program(program.as_bytes().into()), Some(uid))
}

fn spent(credits: &Credits, key: &Key) -> u64 {
    credits.list().iter().find(|account| account.key == *key).map_or(0, |account| account.totals.spent.ns)
}

fn begun(most: usize) -> Credits {
    let mut credits = Credits::default();
    credits.set_most(most);
    credits.begin(std::iter::empty(), HZ, &FxHashMap::default(), None);
    credits
}

#[test]
fn a_second_is_counted_once() {
    let mut credits = Credits::default();
    let mut old = process(1, "old", 0);
    old.cpu_ns = 100;
    credits.begin([&mut old].into_iter(), HZ, &FxHashMap::default(), None);
    old.cpu_ns = 130;
    credits.count(&mut old);
    credits.count(&mut old);
    assert_eq!(spent(&credits, &key("old", 0)), 30, "what it used before is nobody's");
    // Its record says what its clock said last, and a little more; and it ends once only.
    old.life.account.whole_cpu_ns = Some(135);
    old.life.ended = true;
    credits.close(&mut old);
    credits.close(&mut old);
    assert_eq!(spent(&credits, &key("old", 0)), 35);
    let account = &credits.list()[0];
    assert_eq!((account.members, account.totals.started, account.totals.exited), (0, 0, 1));
    // Born and ended between two ticks, with a record below what a clock has shown: the rest is never negative.
    let mut short = process(2, "short", 0);
    (short.cpu_ns, short.life.account.cpu_ns, short.life.account.records) = (50, 40, 1);
    credits.close(&mut short);
    assert_eq!(spent(&credits, &key("short", 0)), 50);
    let mut stranger = Credits::default();
    stranger.stranger(&b"x"[..].into(), Cpu { ns: 5, ..Cpu::default() });
    assert!(stranger.list().is_empty(), "nobody counts yet");
    credits.stranger(&b"x"[..].into(), Cpu { ns: 5, ..Cpu::default() });
    assert_eq!(spent(&credits, &(Whose::Program(b"x"[..].into()), None)), 5);
}

#[test]
fn time_goes_to_who_it_was_when_it_was_spent() {
    let mut credits = begun(usize::MAX);
    // A change that nobody told: what lies before the tick is the old one's.
    let mut one = process(7, "before", 1);
    one.cpu_ns = 10;
    credits.count(&mut one);
    (one.cpu_ns, one.facts.owner) = (30, Reading::Known(2));
    credits.count(&mut one);
    one.cpu_ns = 35;
    credits.count(&mut one);
    assert_eq!((spent(&credits, &key("before", 1)), spent(&credits, &key("before", 2))), (30, 5));
    // One that was told, of a process whose clock can be read: our own.
    let mut own = process(std::process::id(), "before", 1);
    credits.moves(&mut own, 0);
    let counted = own.credit.counted.ns;
    assert!(counted > 0 && own.credit.moved);
    own.life.exec = Some((1, 1));
    own.cpu_ns = counted + 9;
    credits.count(&mut own);
    assert_eq!(own.credit.counted.ns, counted, "what it is now is not known yet");
    own.facts.program = Reading::Known(b"after"[..].into());
    own.life.exec = None;
    credits.count(&mut own);
    assert_eq!(spent(&credits, &key("after", 1)), 9);
    assert_eq!(spent(&credits, &key("before", 1)), 30 + counted);
    // Where nobody ever learns what it executes it counts by its name, a tick later.
    let mut unread = process(8, "was", 1);
    (unread.cpu_ns, unread.life.exec, unread.comm) = (4, Some((8, 1)), b"named"[..].into());
    unread.facts.program = Reading::Late;
    credits.count(&mut unread);
    assert_eq!(spent(&credits, &key("named", 1)), 0);
    credits.count(&mut unread);
    assert_eq!(spent(&credits, &key("named", 1)), 4);
}

#[test]
fn who_was_never_counted_and_is_gone_was_what_it_became() {
    let mut credits = begun(usize::MAX);
    let mut short = process(u32::MAX, "shell", 1);
    credits.moves(&mut short, 5_000_000);
    short.facts.program = Reading::Known(b"tool"[..].into());
    (short.life.account.whole_cpu_ns, short.life.account.records, short.life.ended) = (Some(70), 1, true);
    credits.close(&mut short);
    assert_eq!((spent(&credits, &key("shell", 1)), spent(&credits, &key("tool", 1))), (0, 70));
    assert_eq!(credits.list().len(), 1, "the shell has nothing to do with it");
    // What a process may have used since it changed is not taken for what it was.
    let mut own = process(std::process::id(), "was", 1);
    credits.moves(&mut own, 90_000_000);
    let now = clock::process_cpu_ns(std::process::id()).unwrap();
    assert!(own.credit.moved && own.credit.counted.ns <= now.saturating_sub(90_000_000));
}

#[test]
fn a_zombie_of_before_counts_only_where_its_end_is_told() {
    let mut credits = begun(usize::MAX);
    for (records, counted) in [(0, 0), (1, 9)] {
        let mut zombie = process(6, "z", 0);
        zombie.life.was_zombie = true;
        (zombie.life.account.cpu_ns, zombie.life.account.records) = (9, records);
        credits.close(&mut zombie);
        assert_eq!(spent(&credits, &key("z", 0)), counted);
    }
}

#[test]
fn nobody_hides_behind_a_name_that_is_no_programs() {
    for name in [Whose::KERNEL, Whose::UNATTRIBUTED] {
        assert_eq!(*Whose::Program(name.into()).name(), *[b"\\", name].concat());
    }
    assert_eq!(*Whose::Kernel.name(), *Whose::KERNEL);
    assert_eq!(*Whose::Program(b"x"[..].into()).name(), *b"x");
}

#[test]
fn others_are_told_apart_by_users_as_long_as_these_are_few() {
    let mut credits = begun(2);
    let mut all: Vec<Process> = (0..9).map(|number| process(100 + number, &format!("p{number}"), number)).collect();
    for process in &mut all {
        process.cpu_ns = 1;
        credits.count(process);
    }
    assert_eq!((spent(&credits, &key("other", 2)), spent(&credits, &key("other", 3))), (1, 1));
    assert_eq!(spent(&credits, &(Whose::Program(OTHER.into()), None)), 5);
    assert_eq!(credits.list().len(), 5);
}

#[test]
fn the_kernels_threads_are_one_program_of_the_root_group() {
    let mut credits = begun(usize::MAX);
    for pid in [2, 3] {
        let mut kthread = process(pid, "kworker", 0);
        kthread.stat.flags |= PF_KTHREAD;
        kthread.cpu_ns = 10;
        credits.count(&mut kthread);
    }
    let mut grouped = process(4, "x", 0);
    (grouped.cpu_ns, grouped.facts.cgroup) = (5, Reading::Known(b"/x.service"[..].into()));
    credits.count(&mut grouped);
    let mut root = process(5, "x", 0);
    (root.cpu_ns, root.facts.cgroup) = (5, Reading::Known(b"/"[..].into()));
    credits.count(&mut root);
    assert_eq!((spent(&credits, &(Whose::Kernel, Some(0))), credits.root_ns()), (20, 25));
    let kernel = credits.list().iter().find(|account| account.key.0 == Whose::Kernel).unwrap();
    assert_eq!(kernel.totals.spent.split(), Some((0, 20)), "all of it in the kernel");
}

#[test]
fn a_recorder_goes_on_where_the_one_before_it_was() {
    let mut credits = Credits::default();
    let (mut known, mut born_since, mut lost) = (process(10, "a", 0), process(4000, "a", 0), process(11, "a", 0));
    (known.cpu_ns, born_since.cpu_ns, lost.cpu_ns) = (100, 7, 50);
    let counted = Counted { cpu_ns: 80, told_cpu_ns: 60, told_boot_ns: 5, parts: 2, ..Counted::default() };
    let carried = [(10, (10, counted))].into_iter().collect();
    // 30 s after boot: start ticks 3000.
    credits.begin([&mut known, &mut born_since, &mut lost].into_iter(), HZ, &carried, Some(30_000_000_000));
    for process in [&mut known, &mut born_since, &mut lost] {
        credits.count(process);
    }
    assert_eq!(
        spent(&credits, &key("a", 0)),
        20 + 7,
        "the rest of the known, all of who was born since, nothing of who was there"
    );
    assert_eq!((known.credit.told.cpu_ns, known.credit.told.parts), (60, 2));
    assert_eq!(credits.counted(&known), Some(Counted { cpu_ns: 100, ..counted }));
    // Another process with its pid is not it.
    let mut other = process(10, "a", 0);
    (other.stat.start, other.id.start, other.cpu_ns) = (9999, 9999, 40);
    let mut credits = Credits::default();
    credits.begin([&mut other].into_iter(), HZ, &carried, Some(30_000_000_000));
    credits.count(&mut other);
    assert_eq!(spent(&credits, &key("a", 0)), 40, "born since");
}

#[test]
fn each_second_belongs_to_one_day() {
    let mut credits = begun(usize::MAX);
    let mut one = process(1, "a", 0);
    let mut tick = |credits: &mut Credits, ns: u64, day| {
        one.cpu_ns += ns;
        credits.count(&mut one);
        assert_eq!(credits.tick(day, &Names::default()), ns);
        let account = credits.list().iter().find(|account| account.key == key("a", 0)).unwrap();
        (account.day_ns, credits.days.sum_ns)
    };
    let (today, tomorrow) = (date(2026, 10, 25), date(2026, 10, 26));
    assert_eq!(tick(&mut credits, 5, today), (5, 5));
    assert_eq!(tick(&mut credits, 6, tomorrow), (6, 6));
    assert_eq!(tick(&mut credits, 7, today), (12, 12), "set back over midnight: the day goes on");
    assert_eq!(tick(&mut credits, 8, tomorrow), (14, 14));
    // A restart goes on with it.
    let mut after = begun(usize::MAX);
    after.restore_day(tomorrow, -3, [(key("a", 0), 14)].into_iter());
    assert_eq!(
        (after.days.sum_ns, after.days.unattributed_ns, after.tick(tomorrow, &Names::default()), after.list()[0].day_ns),
        (14, -3, 0, 14)
    );
    assert_eq!((after.tick(date(2026, 10, 27), &Names::default()), after.list()[0].day_ns, after.days.sum_ns), (0, 0, 0));
}

#[test]
fn those_that_find_no_room_are_others_until_there_is_some() {
    let mut credits = begun(2);
    let (mut one, mut two, mut three) = (process(1, "a", 0), process(2, "b", 0), process(3, "c", 0));
    for process in [&mut one, &mut two, &mut three] {
        process.cpu_ns = 10;
        credits.count(process);
    }
    let other = key("other", 0);
    assert_eq!(spent(&credits, &other), 10);
    credits.tick(date(2026, 1, 1), &Names::default());
    credits.begin_interval();
    three.cpu_ns += 1;
    credits.count(&mut three);
    let account = credits.of(&three).unwrap();
    assert_eq!(
        (account.key.clone(), account.totals.started, account.totals.exited),
        (other.clone(), 1, 0),
        "it does not come and go"
    );
    one.life.ended = true;
    credits.close(&mut one);
    credits.tick(date(2026, 1, 1), &Names::default());
    credits.begin_interval();
    three.cpu_ns += 5;
    credits.count(&mut three);
    three.cpu_ns += 2;
    credits.count(&mut three);
    assert_eq!((spent(&credits, &other), spent(&credits, &key("c", 0))), (16, 2));
    credits.tick(date(2026, 1, 1), &Names::default());
    let day: u64 = credits.list().iter().map(|account| account.day_ns).sum();
    assert_eq!((day, credits.days.sum_ns), (38, 38), "what the one before had spent is not lost");
}

#[derive(Clone, Debug)]
enum Step {
    Run(usize, u64),
    Change(usize, u8, u32),
    Count(usize),
    End(usize, u64),
    Tick,
    Sample,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0_usize..6;
    let step = prop_oneof![
        (who.clone(), 0_u64..1000).prop_map(|(who, ns)| Step::Run(who, ns)),
        (who.clone(), 0_u8..4, 0_u32..3).prop_map(|(who, program, uid)| Step::Change(who, program, uid)),
        who.clone().prop_map(Step::Count),
        (who, 0_u64..100).prop_map(|(who, ns)| Step::End(who, ns)),
        Just(Step::Tick),
        Just(Step::Sample),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    // Whatever happens: the accounts add up to what was used, each day's sum to what was ticked, and procs to who came and went.
    #[test]
    fn all_accounts_add_up(steps in steps(), most in 1_usize..6) {
        let mut credits = begun(most);
        let mut all: Vec<Process> = (1..7).map(|pid| process(pid, "p0", 0)).collect();
        all.iter_mut().for_each(|process| process.life = Life { sources: process.life.sources, ..Life::default() });
        let (mut ticked, mut used, mut sampled) = (0, 0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Run(who, ns) => if !all[who].life.ended { all[who].cpu_ns += ns },
                Step::Change(who, program, uid) => {
                    let name = [b'p', b'0' + program];
                    all[who].facts.program = Reading::Known(name[..].into());
                    all[who].facts.owner = Reading::Known(uid);
                }
                Step::Count(who) => credits.count(&mut all[who]),
                Step::End(who, more) => if !all[who].life.ended {
                    let process = &mut all[who];
                    process.life.account.whole_cpu_ns = Some(process.cpu_ns + more);
                    process.cpu_ns += more;
                    process.life.ended = true;
                    credits.close(process);
                },
                Step::Tick => {
                    all.iter_mut().for_each(|process| credits.count(process));
                    ticked += credits.tick(date(2026, 1, 1), &Names::default());
                    used = all.iter().map(|process| process.cpu_ns).sum();
                    prop_assert_eq!(ticked, used);
                    prop_assert_eq!(credits.list().iter().map(|account| account.day_ns).sum::<u64>(), ticked);
                    prop_assert_eq!(credits.days.sum_ns, ticked);
                    let living = all.iter().filter(|process| !process.life.ended).count() as u64;
                    prop_assert_eq!(credits.list().iter().map(|account| account.members).sum::<u64>(), living);
                }
                Step::Sample => {
                    let interval: u64 = credits.list().iter().map(|account| account.interval().spent.ns).sum();
                    sampled += interval;
                    credits.begin_interval();
                }
            }
            for process in &all {
                prop_assert!(process.credit.counted.ns <= process.cpu_ns);
            }
        }
        let rest: u64 = credits.list().iter().map(|account| account.interval().spent.ns).sum();
        let counted: u64 = all.iter().map(|process| process.credit.counted.ns).sum();
        prop_assert_eq!(sampled + rest, counted, "samples say all that was counted, once");
        prop_assert!(used <= all.iter().map(|process| process.cpu_ns).sum());
    }
}

#[test]
fn groups_are_counted_beside_accounts_and_the_dead_are_in_them() {
    let mut credits = begun(usize::MAX);
    credits.groups = Some(Groups::default());
    let in_group = |pid, program, path: Option<&str>| {
        let mut one = process(pid, program, 1);
        one.facts.cgroup = path.map_or(Reading::Refused, |path| Reading::Known(path.as_bytes().into()));
        one
    };
    let mut all = [in_group(1, "a", Some("/x")), in_group(2, "b", Some("/x")), in_group(3, "b", Some("/y")), in_group(4, "b", None)];
    for (process, ns) in all.iter_mut().zip([10, 20, 40, 80]) {
        process.cpu_ns = ns;
        credits.count(process);
    }
    let mut thread = in_group(5, "k", None);
    (thread.stat.flags, thread.cpu_ns) = (PF_KTHREAD, 160);
    credits.count(&mut thread);
    // It moves, and ends elsewhere.
    (all[2].facts.cgroup, all[2].cpu_ns) = (Reading::Known(b"/x"[..].into()), 41);
    credits.close(&mut all[2]);
    credits.stranger(&b"s"[..].into(), Cpu { ns: 320, ..Cpu::default() });
    let groups = credits.groups.as_mut().unwrap();
    groups.census(all[..2].iter());
    let seen = |groups: &Groups| {
        let said = |path: &Option<Arc<[u8]>>| path.as_ref().map_or("-".to_owned(), |path| String::from_utf8_lossy(path).into_owned());
        let mut seen: Vec<(String, u64, u64)> =
            groups.iter().map(|(path, group)| (said(path), group.interval().spent.ns, group.members)).collect();
        seen.sort();
        seen
    };
    let expected = [("-", 400, 0), ("/", 160, 0), ("/x", 31, 2), ("/y", 40, 0)].map(|(path, ns, members)| (path.to_owned(), ns, members));
    assert_eq!(seen(groups), expected);
    let sum: u64 = expected.iter().map(|(_, ns, _)| ns).sum();
    assert_eq!(credits.tick(date(2026, 11, 20), &Names::default()), sum, "the same seconds as in the accounts");
    credits.begin_interval();
    assert_eq!(seen(credits.groups.as_ref().unwrap()), [("/x".to_owned(), 0, 2)], "where nobody is nothing is kept");
}
