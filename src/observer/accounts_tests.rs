//! The accounts against a model: whatever processes do, every nanosecond is counted once, and nothing goes back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::source::stat::Stat;

fn born(pid: u32, program: &str) -> Process {
    let stat = Stat { pid, start: u64::from(pid), state: b'S', num_threads: 1, ..Stat::default() };
    let mut process = Process::new(stat, b"x", None);
    process.facts.program = Reading::Known(program.as_bytes().into());
    process
}

fn of<'a>(accounts: &'a Accounts, name: &str) -> &'a Account {
    let place = accounts.names[name.as_bytes()];
    &accounts.accounts[place.0]
}

fn sum(accounts: &Accounts) -> u64 {
    accounts.accounts.iter().map(|account| account.spent.cpu_ns).sum()
}

#[test]
fn what_was_used_before_is_nobodys_unless_it_counts_from_birth() {
    for (from_birth, want) in [(false, 5), (true, 105)] {
        let mut accounts = Accounts::default();
        let mut process = born(1, "web");
        process.cpu_ns = 100;
        accounts.begin(std::iter::once(&mut process), from_birth);
        process.cpu_ns += 5;
        accounts.count(&mut process);
        let web = of(&accounts, "web");
        assert_eq!((web.spent.cpu_ns, web.members, web.started, web.exited), (want, 1, 0, 0));
    }
}

#[test]
fn the_io_of_before_is_read_late_and_still_not_counted() {
    let io = |wchar| Reading::Known(Io { wchar, ..Io::default() });
    let read = |wchar| {
        let mut usage = crate::observer::usage::Usage::default();
        (usage.io, usage.read_ns) = (io(wchar), 1);
        Some(Box::new(usage))
    };
    let mut accounts = Accounts::default();
    let (mut process, mut dead) = (born(1, "web"), born(2, "web"));
    accounts.begin([&mut process, &mut dead].into_iter(), false);
    process.usage = read(1000);
    accounts.count(&mut process);
    process.usage = read(1007);
    accounts.count(&mut process);
    assert_eq!(of(&accounts, "web").spent.io.wchar, 7);
    // Whoever ends before it was read leaves a record of all of its life: what of it came before is not known, and is not told.
    dead.life.account.wchar = 5000;
    dead.cpu_ns = 3;
    accounts.close(&mut dead);
    let web = of(&accounts, "web");
    assert_eq!((web.spent.io.wchar, web.spent.cpu_ns, web.exited, web.members), (7, 3, 1, 1));
}

#[test]
fn who_executes_another_program_takes_what_it_used_so_far_not_along() {
    let mut accounts = Accounts::default();
    accounts.begin(std::iter::empty(), false);
    let mut process = born(1, "sh");
    process.cpu_ns = 10;
    accounts.count(&mut process);
    process.facts.program = Reading::Unread;
    process.cpu_ns = 12;
    accounts.count(&mut process);
    assert_eq!(of(&accounts, "sh").spent.cpu_ns, 12, "as long as nobody knows what it is, it is what it was");
    process.facts.program = Reading::Known(b"web"[..].into());
    process.cpu_ns = 20;
    accounts.count(&mut process);
    process.cpu_ns = 50;
    accounts.close(&mut process);
    let (sh, web) = (of(&accounts, "sh"), of(&accounts, "web"));
    assert_eq!((sh.spent.cpu_ns, sh.started, sh.exited, sh.members), (20, 1, 1, 0));
    assert_eq!((web.spent.cpu_ns, web.started, web.exited, web.members), (30, 1, 1, 0));
}

#[test]
fn who_found_no_room_counts_for_other_and_an_empty_place_is_given_away() {
    let mut accounts = Accounts::default();
    accounts.set(2, &[(b"must"[..].into(), 1)]);
    accounts.begin(std::iter::empty(), false);
    let mut all: Vec<Process> = ["a", "b", "c"].into_iter().zip(1..).map(|(name, pid)| born(pid, name)).collect();
    for process in &mut all {
        process.cpu_ns = 10;
        accounts.count(process);
    }
    assert_eq!((of(&accounts, "a").members, of(&accounts, "other").members, of(&accounts, "must").members), (1, 2, 0));
    for process in &mut all {
        accounts.count(process);
    }
    assert_eq!(of(&accounts, "other").started, 2, "who counts for other stays there, and does not come each time anew");
    accounts.close(&mut all[0]);
    let mut next = born(9, "d");
    next.cpu_ns = 1;
    accounts.count(&mut next);
    assert_eq!(of(&accounts, "d").members, 1, "the place of a is given away, that of an expected one never");
    assert_eq!((of(&accounts, "other").spent.cpu_ns, sum(&accounts)), (30, 31));
    assert!(!accounts.names.contains_key(&b"a"[..]));
}

#[derive(Clone, Debug)]
enum Step {
    Born(u32, u8),
    Uses(u32, u64),
    Executes(u32, u8),
    Ends(u32, u64),
    Sample,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_u32..8, 0_u8..6).prop_map(|(pid, program)| Step::Born(pid, program)),
        (1_u32..8, 0_u64..1000).prop_map(|(pid, cpu)| Step::Uses(pid, cpu)),
        (1_u32..8, 0_u8..6).prop_map(|(pid, program)| Step::Executes(pid, program)),
        (1_u32..8, 0_u64..1000).prop_map(|(pid, cpu)| Step::Ends(pid, cpu)),
        Just(Step::Sample),
    ]
}

proptest! {
    // Whatever happens, with any number of places: the accounts together hold all CPU time, once; none goes back; and
    // members = started - exited for each.
    #[test]
    fn every_nanosecond_is_counted_once(steps in proptest::collection::vec(step(), 1..80), most in 1_usize..8) {
        let mut accounts = Accounts::default();
        accounts.set(most, &[]);
        accounts.begin(std::iter::empty(), false);
        let mut living: BTreeMap<u32, Process> = BTreeMap::new();
        let (mut used, mut before) = (0, 0);
        for step in steps.into_iter().chain([Step::Sample]) {
            match step {
                Step::Born(pid, program) => {
                    living.entry(pid).or_insert_with(|| born(pid, &program.to_string()));
                }
                Step::Uses(pid, cpu) => {
                    if let Some(process) = living.get_mut(&pid) {
                        process.cpu_ns += cpu;
                        used += cpu;
                    }
                }
                Step::Executes(pid, program) => {
                    if let Some(process) = living.get_mut(&pid) {
                        process.facts.program = Reading::Known(program.to_string().into_bytes().into());
                    }
                }
                Step::Ends(pid, cpu) => {
                    if let Some(mut process) = living.remove(&pid) {
                        // The record of its end knows more than was read of it.
                        process.life.account.cpu_ns = process.cpu_ns + cpu;
                        process.life.account.records = 1;
                        used += cpu;
                        accounts.close(&mut process);
                    }
                }
                Step::Sample => {
                    accounts.look_for_room();
                    living.values_mut().for_each(|process| accounts.count(process));
                    prop_assert_eq!(sum(&accounts), used);
                    prop_assert_eq!(accounts.accounts.iter().map(|account| account.members).sum::<u64>(), living.len() as u64);
                }
            }
            let now = sum(&accounts);
            prop_assert!(now >= before);
            before = now;
            let (mut came, mut went) = (0, 0);
            for account in &accounts.accounts {
                (came, went) = (came + account.started, went + account.exited);
                prop_assert!(accounts.accounts.len() <= most + 1);
            }
            prop_assert_eq!(came - went, accounts.accounts.iter().map(|account| account.members).sum::<u64>());
        }
    }
}

#[test]
fn who_gives_its_place_away_leaves_no_jump_behind() {
    let mut accounts = Accounts::default();
    accounts.set(1, &[]);
    accounts.begin(std::iter::empty(), false);
    let (mut first, mut second) = (born(1, "a"), born(2, "b"));
    first.cpu_ns = 1000;
    accounts.count(&mut first);
    accounts.begin_interval();
    accounts.close(&mut first);
    accounts.count(&mut second);
    let other = of(&accounts, "other");
    assert_eq!((other.spent.cpu_ns, other.shown.cpu_ns), (1000, 1000), "none of it was used in this interval");
    assert_eq!(of(&accounts, "b").members, 1);
}

#[test]
fn who_is_expected_has_a_place_and_who_had_none_gets_one_when_there_is_room() {
    let mut accounts = Accounts::default();
    accounts.set(1, &[(b"e1"[..].into(), 1), (b"e2"[..].into(), 1)]);
    assert_eq!((of(&accounts, "e1").expect, of(&accounts, "e2").expect), (Some(1), Some(1)));
    assert!(!accounts.names.contains_key(OTHER));
    accounts.set(3, &[(b"e1"[..].into(), 1), (b"e2"[..].into(), 1)]);
    accounts.begin(std::iter::empty(), false);
    let (mut first, mut second) = (born(1, "a"), born(2, "b"));
    accounts.count(&mut first);
    accounts.count(&mut second);
    assert_eq!(of(&accounts, "other").members, 1);
    accounts.look_for_room();
    accounts.count(&mut second);
    assert_eq!(of(&accounts, "other").members, 1, "there is none yet");
    accounts.close(&mut first);
    accounts.look_for_room();
    second.cpu_ns = 7;
    accounts.count(&mut second);
    assert_eq!((of(&accounts, "b").members, of(&accounts, "other").members), (1, 0));
    assert_eq!(sum(&accounts), 7);
}

#[test]
fn whom_nobody_had_looked_at_when_counting_began_brings_nothing_along() {
    let mut accounts = Accounts::default();
    let mut process = born(1, "web");
    process.stat.state = 0;
    accounts.begin(std::iter::once(&mut process), false);
    // Now somebody looks: a long life shows.
    process.stat.state = b'S';
    process.cpu_ns = 1_000_000;
    let mut usage = crate::observer::usage::Usage::default();
    (usage.io, usage.read_ns) = (Reading::Known(Io { wchar: 5, ..Io::default() }), 1);
    process.usage = Some(Box::new(usage));
    accounts.count(&mut process);
    process.cpu_ns += 3;
    accounts.count(&mut process);
    assert_eq!((sum(&accounts), of(&accounts, "web").spent.io.wchar), (3, 0));
}
