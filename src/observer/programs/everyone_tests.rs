use super::*;
use crate::config::rules::{Matcher, NamePart, NameTemplate, ProgramRule};
use crate::observer::life::Life;
use crate::observer::programs::member::Claim;
use crate::observer::readers::Readers;
use crate::observer::table::Process;
use crate::record::scrub::{Args, Scrubber};
use crate::source::procdir::Proc;
use crate::source::stat::Stat;

fn world(rules: &[ProgramRule]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let proc = Arc::new(Proc::open(dir.path()).unwrap());
    let readers = Readers::start(Arc::clone(&proc), Box::new(|| {}));
    let mut world = World::new(proc, readers, Scrubber::new(Args::Full, []).unwrap(), 0);
    world.programs = Arc::new(Programs::new(rules, &[]));
    world
}

fn rule(name: &str, children: bool) -> ProgramRule {
    ProgramRule {
        name: NameTemplate { parts: vec![NamePart::Text(format!("p-{name}"))] },
        exe: None,
        comm: Some(Matcher::Exact(name.to_owned())),
        cmd: None,
        user: None,
        cgroup: None,
        unit: None,
        expect: None,
        children,
        multi: false,
        place: None,
    }
}

/// Found in the list of processes; the larger its pid the younger.
fn found(world: &mut World, pid: u32, ppid: u32, comm: &str) {
    found_from(world, pid, ppid, pid.into(), comm);
}

fn found_from(world: &mut World, pid: u32, ppid: u32, start: u64, comm: &str) {
    world.table.insert(Process::new(Stat { pid, ppid, start, state: b'S', ..Stat::default() }, comm.as_bytes(), None));
    world.classify(pid);
    world.families_moved = true;
    world.settle_now();
}

/// Told to be born.
fn born(world: &mut World, pid: u32, parent: u32) {
    world.table.get_mut(parent).unwrap().life.concerns_others = true;
    let id = Identity { pid, start: pid.into() };
    let process = Process::born(id, world.table.get(parent), Life::default());
    world.table.insert(process);
}

fn executes(world: &mut World, pid: u32, comm: &str) {
    let process = world.table.get_mut(pid).unwrap();
    process.facts.forget_program();
    process.comm = comm.as_bytes().into();
    world.classify(pid);
    world.settle_now();
}

/// It ends, and its children are somebody else's.
fn ends(world: &mut World, pid: u32) {
    world.remove(pid);
    for process in world.table.iter_mut_from(0).filter(|process| process.stat.ppid == pid) {
        process.stat.ppid = 1;
        process.life.adopted = true;
    }
}

fn program(world: &World, pid: u32) -> String {
    let program = world.table.get(pid).unwrap().facts.program.known().cloned().unwrap();
    String::from_utf8(program.to_vec()).unwrap()
}

#[test]
fn who_is_found_belongs_to_whom_it_descends_from() {
    let mut world = world(&[rule("web", true), rule("lone", false)]);
    // Children first: pids are used again.
    found(&mut world, 50, 60, "helper");
    found(&mut world, 40, 30, "cgi");
    found(&mut world, 30, 20, "sh");
    found(&mut world, 20, 1, "web");
    found(&mut world, 60, 20, "lone");
    assert_eq!([20, 30, 40].map(|pid| program(&world, pid)), ["p-web", "p-web", "p-web"]);
    assert_eq!(program(&world, 60), "p-lone");
    // Younger than its child: another process has the pid of its parent by now.
    assert_eq!(program(&world, 50), "helper");
    found(&mut world, 70, 60, "helper");
    assert_eq!(program(&world, 70), "helper", "a rule without children ends the family");
}

#[test]
fn a_family_follows_its_ancestors_and_outlives_them() {
    let mut world = world(&[rule("web", true), rule("mail", true), rule("lone", false)]);
    found(&mut world, 10, 1, "web");
    for (pid, parent) in [(11, 10), (12, 11)] {
        born(&mut world, pid, parent);
        assert_eq!(program(&world, pid), "p-web", "as its parent: it says the same");
        executes(&mut world, pid, "helper");
        assert_eq!(program(&world, pid), "p-web");
    }
    assert_eq!(world.table.get(12).unwrap().facts.claim, Claim::Family);
    executes(&mut world, 10, "mail");
    assert_eq!([11, 12].map(|pid| program(&world, pid)), ["p-mail", "p-mail"]);
    // The one between becomes something of its own, and nothing again.
    executes(&mut world, 11, "web");
    assert_eq!(program(&world, 12), "p-web");
    executes(&mut world, 11, "helper");
    assert_eq!(program(&world, 12), "p-mail");
    // It ends: whom it bore still follows the ancestor that lives ...
    ends(&mut world, 11);
    executes(&mut world, 10, "web");
    assert_eq!(program(&world, 12), "p-web");
    executes(&mut world, 10, "mail");
    // ... and stays what it was when that one is gone too, whoever has its pid then.
    ends(&mut world, 10);
    found_from(&mut world, 10, 1, 900, "web");
    assert_eq!(program(&world, 12), "p-mail");
}

#[test]
fn other_rules_are_in_force_for_everyone_at_once() {
    let mut world = world(&[rule("web", true), rule("mail", true)]);
    found(&mut world, 10, 1, "web");
    born(&mut world, 11, 10);
    executes(&mut world, 11, "helper");
    born(&mut world, 12, 11);
    ends(&mut world, 10);
    assert_eq!(program(&world, 11), "p-web");
    world.reclassified.clear();
    // The rule stands elsewhere: who was born into its family belongs to it.
    world.set_programs(Arc::new(Programs::new(&[rule("new", true), rule("web", true)], &[])));
    assert_eq!([11, 12].map(|pid| program(&world, pid)), ["p-web", "p-web"]);
    assert!(world.reclassified.is_empty(), "{:?}", world.reclassified);
    // It is gone, and with it what only it said.
    world.set_programs(Arc::new(Programs::new(&[rule("new", true)], &[])));
    assert_eq!([11, 12].map(|pid| program(&world, pid)), ["helper", "helper"]);
    world.set_programs(Arc::default());
    assert_eq!(program(&world, 11), "helper");
    world.set_programs(Arc::new(Programs::new(&[rule("helper", false)], &[])));
    assert_eq!([11, 12].map(|pid| program(&world, pid)), ["p-helper", "p-helper"]);
}

#[test]
fn a_chain_of_any_length_belongs_to_its_head_and_each_link_is_found_once() {
    let mut world = world(&[rule("head", true)]);
    const LAST: u32 = 20_000;
    for pid in 2..=LAST {
        let comm: &[u8] = if pid == 2 { b"head" } else { b"link" };
        let stat = Stat { pid, ppid: pid - 1, start: pid.into(), state: b'S', ..Stat::default() };
        world.table.insert(Process::new(stat, comm, None));
        world.classify(pid);
    }
    world.asked = 0;
    world.families_moved = true;
    world.settle_now();
    let last = world.table.get(LAST).unwrap();
    assert_eq!(last.facts.program.known().map(|program| &**program), Some(&b"p-head"[..]));
    assert_eq!(world.asked, u64::from(LAST) - 2, "each but the head, once");
}
