//! The pool, with real and made processes.

use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::path::Path;
use std::sync::mpsc;

fn pool(root: &Path) -> (Readers, mpsc::Receiver<()>) {
    let (ready, told) = mpsc::channel();
    let proc = Arc::new(Proc::open(root).unwrap());
    (
        Readers::start(
            proc,
            Box::new(move || {
                let _ = ready.send(());
            }),
        ),
        told,
    )
}

fn ask(pid: u32, start: Option<u64>) -> Request {
    Request::Process { pid, start, wants: Wants::FIRST }
}

/// A process whose command line never answers: a FIFO that nobody writes to.
fn stuck_process(root: &Path, pid: u32) {
    let dir = root.join(pid.to_string());
    std::fs::create_dir_all(&dir).unwrap();
    mknodat(CWD, dir.join("cmdline"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn ourselves_are_read() {
    let (readers, told) = pool(Path::new("/proc"));
    readers.ask([ask(std::process::id(), None), Request::User(0)]);
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(!readers.outstanding() && readers.has_answers() && !readers.is_settled(), "answered, and not taken");
    let mut facts = None;
    for answer in readers.take() {
        match answer {
            Answer::Process { got: Some(got), .. } => facts = Some(got),
            Answer::User(0, name) => assert_eq!(name.as_deref(), Some(&b"root"[..])),
            other => panic!("{other:?}"),
        }
    }
    let facts = facts.unwrap();
    assert!(facts.cmd.unwrap().unwrap().args().next().is_some());
    assert!(facts.exe.unwrap().unwrap().starts_with(b"/"));
    assert!(readers.is_settled());
}

#[test]
fn another_process_with_the_pid_is_not_taken_for_it() {
    let (readers, told) = pool(Path::new("/proc"));
    readers.ask([ask(std::process::id(), Some(1))]);
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    match readers.take().pop().unwrap() {
        Answer::Process { got: Some(got), .. } => assert_eq!(got.cmd, Some(Err(ReadError::Vanished))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn targets_that_never_answer_cost_their_threads_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    for pid in 1..=6 {
        stuck_process(root.path(), pid);
    }
    std::fs::create_dir(root.path().join("100")).unwrap();
    std::fs::write(root.path().join("100/cmdline"), "fine\0").unwrap();
    let (readers, _told) = pool(root.path());

    // One stuck target: its thread is replaced, and the next request is answered.
    readers.ask([ask(1, None)]);
    wait_until(|| readers.deadline().is_some());
    assert_eq!(readers.expire(Instant::now()), 0, "it still has time");
    assert_eq!(readers.expire(Instant::now() + DEADLINE), 1);
    assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 1, got: None, .. }]));
    readers.ask([ask(100, None)]);
    wait_until(|| !readers.outstanding());
    assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 100, got: Some(_), .. }]));

    // It is not asked again while a thread waits for it.
    readers.ask([ask(1, None)]);
    assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 1, got: None, .. }]));

    // With every thread given up, all that is left is late at once, and nothing hangs.
    readers.ask((2..=6).map(|pid| ask(pid, None)).chain([ask(100, None)]));
    let mut late = 0;
    while readers.outstanding() {
        wait_until(|| readers.deadline().is_some() || !readers.outstanding());
        readers.expire(Instant::now() + DEADLINE);
        late += readers.take().iter().filter(|answer| matches!(answer, Answer::Process { got: None, .. })).count();
    }
    assert_eq!(late, 6);

    // A target that answers after all sets its thread free.
    let _ = std::fs::write(root.path().join("1/cmdline"), "late\0");
    wait_until(|| readers.shared.lock().slots.iter().any(|slot| !slot.given_up));

    // With a thread at work again, whoever asks is answered again.
    readers.ask([ask(100, None)]);
    wait_until(|| !readers.outstanding());
    assert!(matches!(readers.take().as_slice(), [Answer::Process { pid: 100, got: Some(_), .. }]));
}

fn wait_until(fact: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !fact() {
        assert!(Instant::now() < limit, "the fact did not come true in 20 s");
        thread::yield_now();
    }
}
