use super::*;
use crate::observer::cgroups::Reach;
use crate::observer::usage::Usage;
use crate::source::stat::Stat;
use crate::source::status::Brief;
use proptest::prelude::*;

fn soft() -> Soft {
    Soft { nofile: Some(1000), nproc: Some(100), address_space: Some(1 << 30), memlock: Some(1 << 16), stack: Some(8 << 20) }
}

#[test]
fn each_limit_can_be_the_nearest() {
    use LimitKind::*;
    let none = Known { soft: soft(), max_maps: Some(65530), ..Known::default() };
    let one = |known: Known| nearest(&known).map(|nearest| (nearest.kind, nearest.tenths()));
    assert_eq!(one(none), None, "nothing is known");
    let half = Pair { value: 50, limit: 100 };
    let rest = Known { fds: Some(1), ..none };
    assert_eq!(one(Known { fds: Some(950), user_tasks: Some(94), ..none }), Some((Nofile, 950)));
    assert_eq!(one(Known { user_tasks: Some(94), ..rest }), Some((Nproc, 940)));
    assert_eq!(one(Known { vsize: Some(1 << 29), ..rest }), Some((As, 500)));
    assert_eq!(one(Known { locked: Some(1 << 15), ..rest }), Some((Memlock, 500)));
    assert_eq!(one(Known { stack: Some(4 << 20), ..rest }), Some((Stack, 500)));
    assert_eq!(one(Known { memory: Some(half), ..rest }), Some((MemoryMax, 500)));
    assert_eq!(one(Known { pids: Some(half), ..rest }), Some((PidsMax, 500)));
    assert_eq!(one(Known { maps: Some(65530), ..rest }), Some((MaxMapCount, 1000)));
    // Without a limit nothing is near.
    assert_eq!(one(Known { fds: Some(1 << 40), soft: Soft::default(), ..none }), None);
}

#[test]
fn per_cents_of_odd_limits() {
    let tenths = |value, limit| Nearest { kind: LimitKind::Memlock, value, limit }.tenths();
    assert_eq!((tenths(0, 0), tenths(1, 0), tenths(999, 1000), tenths(9, 10)), (0, 1000, 999, 900));
    assert_eq!((tenths(u64::MAX, u64::MAX), tenths(u64::MAX, 1)), (1000, u64::MAX));
    // Nobody may lock anything, and nobody did: that is no limit to speak of.
    let none_locked = Known { locked: Some(0), fds: Some(1), soft: Soft { memlock: Some(0), ..soft() }, ..Known::default() };
    assert_eq!(nearest(&none_locked).map(|nearest| nearest.kind), Some(LimitKind::Nofile));
}

#[test]
fn root_and_who_may_raise_them_are_not_bound() {
    let mut tasks = UserTasks::default();
    tasks.0.extend([(0, 99), (33, 99)]);
    let proc = Proc::open(tempfile::tempdir().unwrap().path()).unwrap();
    let radar = Radar::new(&proc);
    let mut process = Process::new(Stat { pid: 7, state: b'S', start: 5, num_threads: 1, ..Stat::default() }, b"web", None);
    process.cgroup_reads = 2;
    assert_eq!(radar.measure(&process, &tasks, 4096), Measured { partial: true, ..Measured::default() }, "nothing was read");
    let only = Soft { nproc: Some(100), ..Soft::default() };
    process.limits = Some(Box::new(Limits { soft: Reading::Known(only), grouped: true, ..Limits::default() }));
    process.facts.owner = Reading::Known(33);
    let kind = |process: &Process| radar.measure(process, &tasks, 4096).nearest.map(|nearest| (nearest.kind, nearest.tenths()));
    assert_eq!(kind(&process), Some((LimitKind::Nproc, 990)));
    let measured = radar.measure(&process, &tasks, 4096);
    assert!(measured.whole());
    let near = Nearest { kind: LimitKind::Nproc, value: 99, limit: 100 };
    assert_eq!((measured.nearest, &*measured.near), (Some(near), &[near][..]));
    process.facts.owner = Reading::Known(0);
    assert_eq!(kind(&process), None);
    process.facts.owner = Reading::Known(33);
    let read = |cap_eff| {
        let brief = Brief { uid: Some(33), cap_eff: Some(cap_eff), locked: Some(64 << 10), ..Brief::default() };
        let mut usage = Usage::default();
        usage.brief = Some(brief);
        Some(Box::new(usage))
    };
    process.usage = read(1 << 24);
    assert_eq!(kind(&process), None, "CAP_SYS_RESOURCE");
    let only = Soft { memlock: Some(64 << 10), ..Soft::default() };
    process.limits = Some(Box::new(Limits { soft: Reading::Known(only), grouped: true, ..Limits::default() }));
    assert_eq!(kind(&process), Some((LimitKind::Memlock, 1000)));
    process.usage = read(1 << 14);
    assert_eq!(kind(&process), None, "CAP_IPC_LOCK");
}

#[test]
fn the_worse_of_two_is_of_the_program() {
    let at = |value| Nearest { kind: LimitKind::Nofile, value, limit: 10 };
    let one = |value| Measured { nearest: Some(at(value)), near: Box::default(), partial: false };
    let who = Worst { id: Identity { pid: 1, start: 1 }, owner: None };
    let mut both = Together::default();
    both.add(&Measured::default(), who);
    assert_eq!(both, Together::default());
    for (value, most) in [(3, 3), (4, 4), (2, 4)] {
        both.add(&one(value), who);
        assert_eq!((both.nearest, both.partial), (Some(at(most)), false));
    }
    both.add(&Measured { partial: true, ..Measured::default() }, who);
    assert_eq!((both.nearest, both.partial), (Some(at(4)), true));
}

#[test]
fn who_was_just_born_and_is_not_read_yet_hides_nothing() {
    let proc = Proc::open(tempfile::tempdir().unwrap().path()).unwrap();
    let (radar, tasks) = (Radar::new(&proc), UserTasks::default());
    let mut process = Process::new(Stat { pid: 7, state: b'S', start: 5, num_threads: 1, ..Stat::default() }, b"web", None);
    let whole = |process: &mut Process| {
        [1, 2].map(|reads| {
            process.cgroup_reads = reads;
            radar.measure(process, &tasks, 4096).whole()
        })
    };
    assert_eq!(whole(&mut process), [true, false], "nothing of it was read: younger than 10 s, and older");
    process.limits = Some(Box::default());
    assert_eq!(whole(&mut process), [true, false], "not its limits");
    let limits = |soft| Some(Box::new(Limits { soft, grouped: true, ..Limits::default() }));
    process.limits = limits(Reading::Known(soft()));
    assert_eq!(whole(&mut process), [true, false], "not its descriptors");
    for soft in [Reading::Late, Reading::Refused] {
        process.limits = limits(soft);
        assert_eq!(whole(&mut process), [false, false], "asked, and there was no answer");
    }
}

proptest! {
    // The nearest is as near as any of those known, and of something that is known and limited.
    #[test]
    fn none_is_nearer(values in any::<[Option<u32>; 6]>(), limits in any::<[Option<u32>; 6]>(), pids in any::<Option<(u32, u32)>>()) {
        let [fds, user_tasks, vsize, locked, stack, maps] = values.map(|value| value.map(u64::from));
        let [nofile, nproc, address_space, memlock, stack_limit, max_maps] = limits.map(|limit| limit.map(u64::from));
        let soft = Soft { nofile, nproc, address_space, memlock, stack: stack_limit };
        let pids = pids.map(|(value, limit)| Pair { value: value.into(), limit: limit.into() });
        let known = Known { soft, fds, user_tasks, vsize, locked, stack, maps, max_maps, memory: None, pids };
        let pairs = values.into_iter().zip(limits).filter_map(|(value, limit)| Some((u64::from(value?), u64::from(limit?))));
        let pairs: Vec<(u64, u64)> = pairs.chain(pids.map(|pair| (pair.value, pair.limit))).collect();
        let most = pairs.iter().map(|(value, limit)| Nearest { kind: LimitKind::As, value: *value, limit: *limit }.tenths()).max();
        let found = nearest(&known);
        prop_assert_eq!(found.map(|nearest| nearest.tenths()), most);
        prop_assert!(found.is_none_or(|nearest| pairs.contains(&(nearest.value, nearest.limit))));
    }
}

/// The table of this machine after a round of everyone, with the radar on and descriptors counted.
fn world() -> crate::observer::world::World {
    use crate::observer::{facts::Wants, readers::Readers, world::World};
    use crate::record::scrub::{Args, Scrubber};
    let proc = Arc::new(Proc::open(std::path::Path::new("/proc")).unwrap());
    let readers = Readers::start(Arc::clone(&proc), Box::new(|| {}));
    let mut world = World::new(proc, readers, Scrubber::new(Args::Full, []).unwrap(), 1000);
    world.watch_limits(true);
    world.details = Wants::FDS | Wants::STATUS;
    world
}

fn round(world: &mut crate::observer::world::World, everyone: bool) {
    use std::time::{Duration, Instant};
    let mut round = crate::observer::round::Round::begin(world, everyone).unwrap();
    while !round.advance(world, Instant::now() + Duration::from_millis(5)) {}
    for asked in 0..2 {
        while world.readers.outstanding() || world.readers.has_answers() {
            world.readers.expire(Instant::now());
            world.absorb(&mut round.touched);
            std::thread::yield_now();
        }
        // The groups are met when the processes have answered.
        if asked == 0 {
            world.ask_cgroups(if everyone { Reach::Everyone } else { Reach::Limited }, &[]);
        }
    }
}

#[test]
fn a_real_process_near_its_descriptors_and_its_mappings_are_counted() {
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    // At least ten of twenty; dash has single digits only.
    let script = "ulimit -S -n 20; i=3; while [ $i -lt 10 ]; do eval \"exec $i</dev/null\"; i=$((i+1)); done; echo; read x";
    let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let pid = child.id();
    let mut world = world();
    round(&mut world, true);
    let measure = |world: &crate::observer::world::World| {
        let tasks = UserTasks::count(&world.table);
        world.radar.as_ref().unwrap().measure(world.table.get(pid).unwrap(), &tasks, world.machine.page)
    };
    let proc = std::sync::Arc::clone(&world.proc);
    let kernel = crate::observer::usage::Kernel { tells_fds: true, ..Default::default() };
    crate::observer::usage::read(&proc, kernel, world.table.get_mut(pid).unwrap(), &mut 0);
    let process = world.table.get(pid).unwrap();
    let soft = *process.limits.as_ref().unwrap().soft.known().unwrap();
    assert_eq!(soft.nofile, Some(20));
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    assert!(fds >= 10);
    let near = measure(&world);
    assert_eq!(near.nearest, Some(Nearest { kind: LimitKind::Nofile, value: fds, limit: 20 }), "{near:?}");
    assert!(near.whole(), "{:?}", process.limits);

    // With few mappings allowed, as if, they are counted for whoever could have as many.
    world.radar.as_mut().unwrap().max_maps = Some(1);
    let mut asked = crate::observer::round::Round::begin(&mut world, true).unwrap();
    while !asked.advance(&mut world, std::time::Instant::now() + std::time::Duration::from_millis(5)) {}
    while world.readers.outstanding() || world.readers.has_answers() {
        world.readers.expire(std::time::Instant::now());
        world.absorb(&mut asked.touched);
        std::thread::yield_now();
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines().count() as u64;
    assert_eq!(measure(&world).nearest, Some(Nearest { kind: LimitKind::MaxMapCount, value: maps, limit: 1 }));

    // Off, nothing is kept.
    world.watch_limits(false);
    assert!(world.table.iter().all(|process| process.limits.is_none()) && world.once.is_empty());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn a_real_group_is_near_its_tasks() {
    let point = std::path::Path::new("/sys/fs/cgroup/pids");
    let group = point.join(format!("psmon-radar-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir(&group).and_then(|()| std::fs::write(group.join("pids.max"), "2")) {
        let _ = std::fs::remove_dir(&group);
        println!("SKIPPED: no group of the v1 pids controller can be made here: {error}");
        return;
    }
    let mut child = std::process::Command::new("sleep").arg("1013").spawn().unwrap();
    let pid = child.id();
    std::fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
    let mut world = world();
    round(&mut world, true);
    let measure = |world: &crate::observer::world::World| {
        let tasks = UserTasks::count(&world.table);
        world.radar.as_ref().unwrap().measure(world.table.get(pid).unwrap(), &tasks, world.machine.page).nearest
    };
    let half = measure(&world);
    std::fs::write(group.join("pids.max"), "1").unwrap();
    // It is limited, so it is read from time to time, though the process sleeps.
    round(&mut world, false);
    let full = measure(&world);
    child.kill().unwrap();
    child.wait().unwrap();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::fs::remove_dir(&group).is_err() && std::time::Instant::now() < limit {
        std::thread::yield_now();
    }
    assert_eq!(half, Some(Nearest { kind: LimitKind::PidsMax, value: 1, limit: 2 }));
    assert_eq!(full, Some(Nearest { kind: LimitKind::PidsMax, value: 1, limit: 1 }));
}

#[test]
fn what_a_tick_looks_at_is_in_two_cache_lines() {
    // Its session is the last of it: `Process` says why.
    assert!(std::mem::offset_of!(Process, stat) + std::mem::offset_of!(Stat, session) + 8 <= 128);
}
