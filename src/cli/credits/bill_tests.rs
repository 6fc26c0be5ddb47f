use super::*;
use crate::observer::obituary::Status;
use crate::source::wait;
use std::time::Instant;

const HZ: u64 = 100;

fn word(name: &str) -> Arc<[u8]> {
    name.as_bytes().into()
}

/// A life of this pid; the parent's place, CPU of the obituary, CPU that wait4(2) told.
fn life(pid: u32, parent: Option<usize>, program: &str, obituary_us: Option<u64>, told_us: Option<u64>) -> Life {
    let obituary = obituary_us.map(|cpu_us| {
        Box::new(Obituary {
            pid,
            start: Some(100),
            program: Some(word(program)),
            cpu_us: Some(cpu_us),
            split_us: Some((cpu_us, 0)),
            max_rss: Some(1000),
            ..Obituary::default()
        })
    });
    let reaped = told_us.map(|user_us| {
        Box::new(Reaped {
            pid,
            start: Some(100),
            comm: Some(word("comm")),
            status: Status(0),
            used: wait::Used { user_us, system_us: 0, max_rss: 5000 },
            at: Instant::now(),
        })
    });
    Life::made(pid, parent, obituary, reaped)
}

fn living(pid: u32, cpu_us: u64, waited_for: u64) -> Living {
    Living { pid, start: 100, comm: word("daemon"), cpu_us, user: 1, system: 1, waited_for, max_rss: Some(9000) }
}

fn of(bill: &Bill, program: &str) -> Option<Sum> {
    bill.programs.iter().find(|(name, _)| name.as_deref() == Some(program.as_bytes())).map(|(_, sum)| *sum)
}

#[test]
fn each_is_counted_once() {
    // The command, a child it waited for, one that the kernel reaped, and an orphan with a child of its own.
    let lives = [
        life(1, None, "make", Some(10), Some(110)),
        life(2, Some(0), "cc", Some(100), None),
        life(3, Some(0), "lost", Some(1000), None),
        life(4, Some(1), "daemon", Some(10_000), Some(30_000)),
        life(5, Some(3), "worker", Some(20_000), None),
    ];
    let bill = add_up(Truth::Records, &lives, &[], HZ);
    assert_eq!((bill.cpu_us, bill.ends_us, bill.missing, bill.processes), (31_110, 0, 0, 5));
    assert_eq!(of(&bill, "worker"), Some(Sum { processes: 1, cpu_us: 20_000 }));
    assert_eq!(bill.programs.iter().map(|(_, sum)| sum.cpu_us).sum::<u64>(), bill.cpu_us);
    assert_eq!((bill.waited_us, bill.max_rss, bill.split_us), (30_110, Some(1000), Some((31_110, 0))));
    assert_eq!(bill.programs[0].0.as_deref(), Some(&b"worker"[..]), "the dearest first");
}

#[test]
fn what_came_after_the_record_is_in_the_sum() {
    // Alone it is its own, of several it is nobody's.
    let alone = add_up(Truth::Records, &[life(1, None, "big", Some(100), Some(150))], &[], HZ);
    assert_eq!((alone.cpu_us, alone.ends_us, of(&alone, "big").unwrap().cpu_us), (150, 0, 150));
    let several = [life(1, None, "sh", Some(100), Some(350)), life(2, Some(0), "big", Some(200), None)];
    let bill = add_up(Truth::Records, &several, &[], HZ);
    assert_eq!((bill.cpu_us, bill.ends_us, of(&bill, "big").unwrap().cpu_us), (350, 50, 200));
    assert_eq!(bill.split_us, Some((350, 0)), "split as wait4(2) has it");
}

#[test]
fn whose_obituary_is_missing_has_what_wait4_told() {
    let lives = [life(1, None, "sh", Some(100), Some(350)), life(2, Some(0), "?", None, None)];
    let bill = add_up(Truth::Records, &lives, &[], HZ);
    assert_eq!((bill.cpu_us, bill.missing, bill.ends_us), (350, 1, 0));
    assert!(bill.programs.contains(&(None, Sum { processes: 1, cpu_us: 250 })), "{bill:?}");
    let nobody = add_up(Truth::Records, &[life(1, None, "x", None, Some(70))], &[], HZ);
    assert_eq!((nobody.cpu_us, nobody.missing, of(&nobody, "comm").unwrap().cpu_us), (70, 1, 70));
    assert_eq!(nobody.max_rss, Some(5000));
}

#[test]
fn the_living_stand_apart() {
    // An orphan that lives, and a child of it that ended.
    let lives =
        [life(1, None, "sh", Some(100), Some(100)), life(2, Some(0), "daemon", None, None), life(3, Some(1), "worker", Some(40), None)];
    let bill = add_up(Truth::Records, &lives, &[living(2, 3000, 5), living(9, 20, 0)], HZ);
    assert_eq!((bill.living_us, bill.cpu_us, bill.missing), (3020, 3160, 0));
    assert_eq!((bill.processes, bill.max_rss), (4, Some(9000)), "one of the living was not told of");
    assert_eq!(of(&bill, "daemon"), None);
    let (user, system) = bill.split_us.unwrap();
    assert_eq!(user + system, bill.cpu_us);
    // Without records nobody else tells what it waited for.
    let bill = add_up(Truth::Births, &lives, &[living(2, 3000, 5)], HZ);
    assert_eq!((bill.living_us, bill.missing), (53_000, 0));
}

#[test]
fn without_records_it_is_what_wait4_told() {
    let lives = [life(1, None, "sh", None, Some(350)), life(2, Some(0), "cc", None, None), life(4, Some(1), "daemon", None, Some(20))];
    let bill = add_up(Truth::Births, &lives, &[], HZ);
    assert_eq!((bill.cpu_us, bill.processes, bill.missing, bill.max_rss), (370, 3, 0, Some(5000)));
    assert_eq!(of(&bill, "comm"), Some(Sum { processes: 3, cpu_us: 370 }));
    assert_eq!(bill.split_us, Some((370, 0)));
}

#[test]
fn nothing_used_is_zero_and_not_unknown() {
    let bill = add_up(Truth::Orphans, &[], &[], HZ);
    assert_eq!((bill.cpu_us, bill.split_us, bill.max_rss), (0, Some((0, 0)), None));
    // A split that nobody knows is none.
    let mut lost = life(1, None, "x", Some(5), None);
    lost.obituary.as_mut().unwrap().split_us = None;
    assert_eq!(add_up(Truth::Records, &[lost], &[], HZ).split_us, None);
}
