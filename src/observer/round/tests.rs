//! Rounds over this machine's own /proc.

use super::*;
use crate::observer::facts::{Got, Reading};
use crate::observer::readers::Readers;
use crate::record::cmd::Cmd;
use crate::record::scrub::{Args, Scrubber};
use crate::source::clock::ticks_to_ns;
use crate::source::procdir::Proc;
use crate::source::{ReadError, stat};
use std::path::Path;
use std::process::Command;

fn world(may_keep: usize) -> World {
    let proc = Arc::new(Proc::open(Path::new("/proc")).unwrap());
    let readers = Readers::start(Arc::clone(&proc), Box::new(|| {}));
    World::new(proc, readers, Scrubber::new(Args::Full, []).unwrap(), may_keep)
}

fn whole_round(world: &mut World, everyone: bool) -> Round {
    let mut round = Round::begin(world, everyone).unwrap();
    while !round.advance(world, Instant::now() + Duration::from_millis(5)) {}
    while world.readers.outstanding() {
        world.readers.expire(Instant::now());
        world.absorb(&mut round.touched);
        std::thread::yield_now();
    }
    world.absorb(&mut round.touched);
    round
}

#[test]
fn births_execs_and_ends_without_events() {
    for may_keep in [0, 1000] {
        let mut world = world(may_keep);
        whole_round(&mut world, true);
        let mut child = Command::new("sh").args(["-c", "read x; exec sleep 61"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let wait_for = |comm: &[u8]| {
            let limit = Instant::now() + Duration::from_secs(20);
            while std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default().trim_ascii() != comm {
                assert!(Instant::now() < limit);
                std::thread::yield_now();
            }
        };
        wait_for(b"sh");
        let round = whole_round(&mut world, false);
        assert!(round.touched.contains(&pid));
        let process = world.table.get(pid).unwrap();
        assert_eq!(process.facts.cmd.known().unwrap().args().last(), Some(&b"read x; exec sleep 61"[..]));
        let id = process.id;

        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        wait_for(b"sleep");
        // As long as it has not left the CPU its clock may be a scheduler tick old.
        let limit = Instant::now() + Duration::from_secs(20);
        // And the name is new a little before the arguments are.
        let shows_it =
            |world: &World| world.table.get(pid).unwrap().facts.cmd.known().is_some_and(|cmd| cmd.args().next() == Some(b"sleep"));
        while !shows_it(&world) {
            whole_round(&mut world, false);
            assert!(Instant::now() < limit);
        }
        let process = world.table.get(pid).unwrap();
        assert_eq!((process.id, &*process.comm), (id, &b"sleep"[..]));
        assert_eq!(**process.facts.cmd.known().unwrap(), Cmd::from_args([&b"sleep"[..], b"61"], 0));
        assert!(process.facts.exe.known().unwrap().ends_with(b"sleep"));

        child.kill().unwrap();
        child.wait().unwrap();
        whole_round(&mut world, false);
        assert!(world.unseen.iter().any(|ended| ended.id == id));
        assert!(world.table.get(pid).is_none());
    }
}

#[test]
fn an_idle_process_is_not_touched() {
    let mut world = world(1000);
    let mut child = Command::new("sleep").arg("62").spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    // Once it sleeps for good its clock stands still.
    loop {
        whole_round(&mut world, false);
        let round = whole_round(&mut world, false);
        if !round.touched.contains(&child.id()) {
            break;
        }
        assert!(Instant::now() < limit);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_orphan_has_its_new_parent_at_once_though_it_did_not_run() {
    let mut world = world(1000);
    let mut parent = Command::new("sh").args(["-c", "sleep 64 & read x"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    // The child sleeps, and is idle.
    let child = loop {
        whole_round(&mut world, false);
        let round = whole_round(&mut world, false);
        let found = world.table.iter().find(|process| process.stat.ppid == parent.id() && &*process.comm == b"sleep");
        if let Some(child) = found.map(|process| process.id.pid).filter(|pid| !round.touched.contains(pid)) {
            break child;
        }
        assert!(Instant::now() < limit);
    };
    parent.kill().unwrap();
    // As a zombie already it has no children any more.
    while !std::fs::read(format!("/proc/{}/stat", parent.id())).unwrap().windows(4).any(|part| part == b") Z ") {
        assert!(Instant::now() < limit);
    }
    let real = || {
        let stat = std::fs::read(format!("/proc/{child}/stat")).unwrap();
        stat::parse(&stat).unwrap().0.ppid
    };
    assert_ne!(real(), parent.id());
    let round = whole_round(&mut world, false);
    assert_eq!(world.table.get(child).unwrap().stat.ppid, real());
    assert!(round.touched.contains(&child) && !round.everyone);
    parent.wait().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
}

#[test]
fn whoever_ends_while_asked_keeps_what_was_known() {
    let mut world = world(1000);
    whole_round(&mut world, true);
    let id = world.table.get(std::process::id()).unwrap().id;
    let gone = || Got {
        cmd: Some(Err(ReadError::Vanished)),
        exe: Some(Err(ReadError::Vanished)),
        cgroup: Some(Err(ReadError::Vanished)),
        owner: Some(Err(ReadError::Vanished)),
        ..Got::default()
    };
    let facts = |world: &World| {
        let facts = &world.table.get(id.pid).unwrap().facts;
        (facts.cmd.clone(), facts.exe.clone(), facts.program.clone(), facts.cgroup.clone(), facts.owner.clone())
    };
    let before = facts(&world);
    assert!(before.0.known().is_some() && before.1.known().is_some() && before.4.known().is_some());
    world.take_facts(id.pid, Some(id.start), Wants::FIRST, Some(Box::new(gone())));
    assert_eq!(facts(&world), before);
    assert_eq!(world.table.get(id.pid).unwrap().cmd_read_ns, 0, "if it lives after all, it is asked again");
}

#[test]
fn clock_ticks_of_centuries_are_no_overflow() {
    assert_eq!(ticks_to_ns(250, 100), 2_500_000_000);
    // Six years of CPU.
    assert_eq!(ticks_to_ns(18_921_600_000, 100), 189_216_000_000_000_000);
    assert_eq!(ticks_to_ns(u64::MAX, 100), u64::MAX);
}

#[test]
fn sockets_and_who_holds_them_come_by_the_readers() {
    use crate::observer::sockets::Counts;
    let mut world = world(0);
    whole_round(&mut world, true);
    let pid = std::process::id();
    let sockets: [_; 2] = std::os::unix::net::UnixStream::pair().unwrap().into();
    let inodes: Vec<u64> = sockets.iter().map(|socket| rustix::fs::fstat(socket).unwrap().st_ino).collect();
    let start = world.table.get(pid).unwrap().stat.start;
    let settle = |world: &mut World| {
        let limit = Instant::now() + Duration::from_secs(20);
        let mut touched = Vec::new();
        loop {
            world.absorb(&mut touched);
            if world.readers.has_sockets() {
                assert!(touched.is_empty(), "no row of stream ps changes by it");
                return;
            }
            assert!(Instant::now() < limit);
            std::thread::yield_now();
        }
    };
    world.table.get_mut(pid).unwrap().asked |= Wants::SOCKETS;
    world.readers.ask([(pid, Some(start)), (pid, Some(start + 1))].map(|(pid, start)| Request::Process {
        pid,
        start,
        wants: Wants::SOCKETS,
    }));
    settle(&mut world);
    assert_eq!(std::mem::take(&mut world.listed), [pid], "what another process would have that had the pid is not taken");
    let process = world.table.get(pid).unwrap();
    assert!(!process.asked.has(Wants::SOCKETS));
    let held = process.held.as_deref().unwrap().known().unwrap().clone();
    assert!(inodes.iter().all(|inode| held.inodes.binary_search(inode).is_ok()));
    assert_eq!(world.sockets.count([held.netns], inodes.iter().copied()), Reading::Late);
    let requests = world.sockets.requests([(held.netns, pid)], Duration::ZERO);
    world.readers.ask(requests);
    assert!(!world.readers.has_sockets(), "it is asked, or has come and waits to be taken");
    settle(&mut world);
    let want = Counts { unix: 2, sockets: 2, ..Counts::default() };
    assert_eq!(world.sockets.count([held.netns], inodes.iter().copied()), Reading::Known(want));
}
