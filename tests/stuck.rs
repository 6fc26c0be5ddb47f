//! What hangs, what is refused and what is far too much: psmond goes on with everything else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Mount, Place, Segment, Victim, as_nobody, has, is_root, skipped, until, until_within};
use psmon::record::value::Value;

/// What systemd would hear.
struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Vec<(Instant, String)>,
}

impl Systemd {
    fn new(place: &Place) -> Self {
        let path = place.root.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, path, heard: Vec::new() }
    }

    /// A service with `WatchdogSec=1`.
    fn watches(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "1000000");
        command
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.heard.push((Instant::now(), String::from_utf8_lossy(&buffer[..length]).into_owned()));
        }
    }

    fn pings(&mut self) -> usize {
        self.hear();
        self.heard.iter().filter(|(_, text)| text.contains("WATCHDOG=1")).count()
    }

    fn heard(&mut self, what: &str) -> bool {
        self.hear();
        self.heard.iter().any(|(_, text)| text.contains(what))
    }

    /// Waits for so many pings more, none of which may be late by more than a busy machine makes it.
    fn goes_on_pinging(&mut self, count: usize) {
        let from = self.pings();
        until("pings of the watchdog", || self.pings() >= from + count);
        let times: Vec<Instant> = self.heard.iter().filter(|(_, text)| text.contains("WATCHDOG=1")).map(|(at, _)| *at).collect();
        let longest = times[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest < Duration::from_secs(3), "{longest:?} without a ping");
    }
}

/// A file system of `tests/fixtures/hang_fs.py`.
struct Hanging {
    control: PathBuf,
    _mount: Mount,
    _server: Victim,
}

impl Hanging {
    /// Over a directory of its own, mounted at `at`.
    fn new(place: &Place, at: &Path) -> Self {
        let below = place.root.path().join("below");
        let control = place.root.path().join("control");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::create_dir_all(at).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hang_fs.py");
        let server = Victim::spawn(Command::new("/usr/bin/python3").arg(script).args([&below, at, &control]).stderr(Stdio::null()));
        until("the file system", || std::fs::read_to_string("/proc/mounts").unwrap().contains(at.to_str().unwrap()));
        Self { control, _mount: Mount(at.to_owned()), _server: server }
    }

    /// From now on this hangs.
    fn hang(&self, what: &str) {
        std::fs::write(&self.control, format!("{what}\n")).unwrap();
    }

    fn release(&self) {
        std::fs::remove_file(&self.control).unwrap();
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.control);
    }
}

fn has_fuse(test: &str) -> bool {
    let python = Command::new("/usr/bin/python3").args(["-c", "import fusepy"]).stderr(Stdio::null()).status();
    let fuse = Path::new("/dev/fuse").exists() && python.is_ok_and(|status| status.success());
    if !fuse {
        skipped(test, "FUSE or python3-fusepy is missing");
    }
    fuse
}

#[test]
fn a_disk_that_hangs_holds_up_neither_samples_nor_the_watchdog() {
    let test = "a_disk_that_hangs_holds_up_neither_samples_nor_the_watchdog";
    if !is_root(test) || !has_fuse(test) {
        return;
    }
    let place = Place::new("");
    let disk = Hanging::new(&place, &place.logs());
    let mut systemd = Systemd::new(&place);
    let recorder = place.start_command(systemd.watches(place.command()));
    place.wait_for_ticks(2);
    assert!(systemd.heard("READY=1"));
    let before = place.last_seq();
    disk.hang("write /ps.log");
    systemd.goes_on_pinging(13);
    assert!(place.last_seq() <= before + 1, "it did not hang");
    assert!(place.stderr().contains("The disk of the journal has not answered for"), "{}", place.stderr());
    // A reload that cannot take effect is no reason to be taken for dead either.
    recorder.hup();
    systemd.goes_on_pinging(5);
    disk.release();
    until("the note of the slow disk", || place.ps().notes("slow disk").len() == 1);
    until("the reload", || place.ps().notes("reload ok").len() == 1);
    assert!(place.wait_for_next_tick().notes("slow disk")[0].starts_with("what=write took_ms="));
    assert_eq!(recorder.stop(), 0);
    // All that was sampled meanwhile is there.
    let segments = place.all_ps();
    Segment::assert_no_sample_missing(&segments);
    assert!(segments[0].notes("gap").is_empty() && place.last_seq() >= before + 8);
    let times: Vec<i64> = segments[0].ticks().map(|tick| tick.time.unix_ns / 1_000_000_000).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 3), "samples went on meanwhile: {times:?}");
    place.assert_whole();
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_disk_that_hangs() {
    let test = "a_stop_does_not_wait_for_ever_for_a_disk_that_hangs";
    if !is_root(test) || !has_fuse(test) {
        return;
    }
    let place = Place::new("");
    let disk = Hanging::new(&place, &place.logs());
    let mut recorder = place.start();
    place.wait_for_ticks(2);
    disk.hang("write /ps.log");
    let before = place.last_seq();
    until("the hang", || disk.control.with_file_name("control.hung").exists());
    recorder.signal(rustix::process::Signal::TERM);
    // It says so and ends; the kernel keeps the thread in its write for as long as the disk hangs.
    until("its last words", || place.stderr().contains("the disk does not answer"));
    disk.release();
    assert_eq!(recorder.wait(), 3);
    let recorder = place.start();
    until("recording goes on", || place.last_seq() >= before + 2);
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

/// A made tree of processes, in memory where that can be: a hundred thousand names are slow to remove from a disk.
struct Tree(PathBuf, #[expect(dead_code, reason = "it is removed when dropped")] tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let tree = Self(root.path().join("proc"), root);
        common::made_machine(&tree.0);
        std::fs::write(tree.0.join("meminfo"), "MemTotal: 1000000 kB\nSwapTotal: 0 kB\n").unwrap();
        tree
    }

    /// A process, there at once or not at all.
    fn process(&self, pid: u32, cmdline: Option<&[u8]>) {
        let dir = self.0.join(format!("new-{pid}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("stat"), common::made_stat(pid)).unwrap();
        match cmdline {
            Some(cmdline) => {
                // One file for all who say the same.
                let file = self.0.join(format!("cmdline-{}", cmdline.len()));
                if !file.exists() {
                    std::fs::write(&file, cmdline).unwrap();
                }
                std::fs::hard_link(file, dir.join("cmdline")).unwrap();
            }
            // Nobody ever writes to it: whoever opens it waits.
            None => assert!(Command::new("mkfifo").arg(dir.join("cmdline")).status().unwrap().success()),
        }
        std::fs::rename(dir, self.0.join(pid.to_string())).unwrap();
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = place.command();
        command.arg("--proc").arg(&self.0);
        command
    }
}

#[test]
fn a_process_that_never_answers_costs_itself_only() {
    let place = Place::new("");
    let tree = Tree::new();
    for pid in 1..=20 {
        tree.process(pid, (pid != 7).then_some(&b"made\0up\0"[..]));
    }
    let mut systemd = Systemd::new(&place);
    let recorder = place.start_command(systemd.watches(tree.command(&place)));
    let pids = |segment: &Segment| segment.rows().iter().map(|row| row.number("pid")).collect::<BTreeSet<_>>();
    until("all twenty", || pids(&place.ps()) == (1..=20).collect());
    until("the one marked", || place.ps().rows_of(7).last().is_some_and(|row| row.get("cmd") == &Value::Refused));
    assert!(place.ps().rows().iter().all(|row| row.number("pid") == 7 || row.get("cmd") != &Value::Refused));
    systemd.goes_on_pinging(4);
    let ticks = place.wait_for_next_tick();
    assert_eq!(ticks.ticks().last().unwrap().field("stuck"), Some("1"));

    // Three more while it runs, which is as many threads as are ever given up; and one that answers.
    for pid in 21..=23 {
        tree.process(pid, None);
    }
    tree.process(24, Some(b"fine\0"));
    let from = place.last_seq();
    until("the new ones", || pids(&place.ps()).is_superset(&(21..=24).collect()));
    until("four stuck", || {
        place.ps().ticks().last().unwrap().field("stuck").is_some_and(|stuck| stuck.parse::<u32>().unwrap() >= 4)
    });
    systemd.goes_on_pinging(6);
    place.wait_for_next_tick();
    let segment = place.ps();
    let times: Vec<i64> =
        segment.ticks().filter(|tick| tick.count("seq").unwrap() > from).map(|tick| tick.time.unix_ns / 1_000_000_000).collect();
    assert!(times.len() >= 4 && times.windows(2).all(|pair| pair[1] - pair[0] <= 2), "a sample each second: {times:?}");
    assert!(segment.ticks().last().unwrap().count("seen").unwrap() == 24);
    // Each of those a thread waits for is told once; whoever could not be asked because of them is not.
    let alerts = || place.all("alerts").iter().flat_map(Segment::rows).collect::<Vec<_>>();
    let told = |level: &[u8]| {
        let mine = alerts().into_iter().filter(|row| row.word("kind") == b"stuck" && row.word("level") == level);
        mine.map(|row| row.number("pid")).collect::<Vec<_>>()
    };
    until("an alert of each", || told(b"warn").len() == 4);
    assert_eq!((told(b"warn").into_iter().collect(), told(b"ok")), (BTreeSet::from([7, 21, 22, 23]), vec![]));
    assert!(String::from_utf8(alerts()[0].word("text")).unwrap().starts_with("Process 7 does not answer: "));

    // It answers: the thread that waits for it comes back, and the next full sample reads it.
    let pipe = tree.0.join("7/cmdline");
    let waited_for = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    std::fs::write(tree.0.join("answer"), "an\0answer\0").unwrap();
    std::fs::rename(tree.0.join("answer"), &pipe).unwrap();
    drop(waited_for);
    until("it answers", || {
        recorder.hup();
        place.wait_for_next_tick();
        // Whoever does not listen to psmond's pings holds it up.
        systemd.hear();
        !told(b"ok").is_empty()
    });
    assert_eq!((told(b"ok"), told(b"warn").len()), (vec![7], 4), "said once");
    until("the tick", || {
        systemd.hear();
        let ticks = place.all("alerts").iter().flat_map(|segment| segment.ticks().cloned().collect::<Vec<_>>()).collect::<Vec<_>>();
        ticks.last().unwrap().count("open") == Some(3)
    });
    let began = Instant::now();
    assert_eq!(recorder.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(systemd.heard("STOPPING=1"));
    Segment::assert_no_sample_missing(&place.all_ps());
    place.assert_whole();
}

#[test]
fn a_table_of_32_000_processes_is_recorded() {
    let place = Place::new("ps:interval = \"5s\"\n");
    let tree = Tree::new();
    for pid in 1..=32_000 {
        tree.process(pid, Some(b"made\0up\0"));
    }
    let began = Instant::now();
    let recorder = place.start_command(tree.command(&place));
    let mut first = true;
    until_within(Duration::from_secs(90), "a sample of them all, and every fact in it", || {
        std::thread::sleep(Duration::from_millis(500));
        let segment = place.ps();
        let Some(tick) = segment.ticks().last() else { return false };
        assert_eq!(tick.count("seen"), Some(32_000));
        if std::mem::take(&mut first) {
            println!(
                "the first sample of 32 000 stood after {:?}; of {} not all was known",
                began.elapsed(),
                tick.field("stuck").unwrap()
            );
        }
        tick.field("stuck") == Some("0")
    });
    println!("everything was known after {:?}", began.elapsed());
    let segment = place.ps();
    let tick = segment.ticks().next().unwrap();
    // The one that has psmond's own pid is hidden.
    assert_eq!((tick.field("full"), tick.count("n").unwrap() + tick.count("hidden").unwrap()), (Some("1"), 32_000));
    let known: BTreeSet<_> = segment.rows().iter().filter(|row| row.get("cmd") != &Value::Refused).map(|row| row.number("pid")).collect();
    assert!(known.len() >= 31_999, "{}", known.len());
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

/// A shell with many children; all end with it.
struct Crowd(Victim);

impl Crowd {
    fn new(count: u32) -> Self {
        let script = format!("i=0; while [ $i -lt {count} ]; do sleep 1007 & i=$((i+1)); done; wait");
        Self(Victim::spawn(Command::new("sh").args(["-c", &script]).process_group(0).stderr(Stdio::null())))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_raw(i32::try_from(self.0.pid()).unwrap()).unwrap();
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[test]
fn a_hundred_descriptors_are_enough_for_any_number_of_processes() {
    let test = "a_hundred_descriptors_are_enough_for_any_number_of_processes";
    if !has(test, "prlimit") {
        return;
    }
    let place = Place::new("");
    let crowd = Crowd::new(300);
    let mut command = Command::new("prlimit");
    command.arg("--nofile=100:100").arg(common::psmond()).arg("-c").arg(place.config());
    let recorder = place.start_command(command);
    let children = || {
        place
            .ps()
            .rows()
            .iter()
            .filter(|row| row.number("ppid") == i64::from(crowd.0.pid()))
            .map(|row| row.number("pid"))
            .collect::<BTreeSet<_>>()
    };
    until("300 children", || children().len() == 300);
    let segment = place.wait_for_next_tick();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", recorder.pid())).unwrap().count();
    assert!(fds < 100, "{fds}");
    for tick in segment.ticks() {
        assert_eq!((tick.field("refused"), tick.field("stuck")), (Some("0"), Some("0")), "{:?}", tick.time);
    }
    assert!(
        segment
            .rows()
            .iter()
            .filter(|row| row.number("ppid") == i64::from(crowd.0.pid()))
            .all(|row| row.word("program") == b"sleep" || row.word("program") == b"sh")
    );
    assert_eq!(recorder.stop(), 0);
    place.assert_whole();
}

#[test]
fn an_ordinary_user_records_what_he_may() {
    let test = "an_ordinary_user_records_what_he_may";
    if !is_root(test) || !has(test, "setpriv") {
        return;
    }
    let place = Place::new("[usage]\ninterval = \"1s\"\nps:columns = [\"pid\", \"user\", \"program\", \"rss\", \"read_bytes\", \"cmd\"]\n");
    std::fs::create_dir(place.logs()).unwrap();
    std::os::unix::fs::chown(place.logs(), Some(common::NOBODY), Some(common::NOBODY)).unwrap();
    let child = Victim::spawn(Command::new("sleep").arg("1008"));
    let recorder = place.start_command(as_nobody(&place));
    until("its row", || !place.ps().rows_of(child.pid()).is_empty());
    let degraded = || place.all("usage").iter().flat_map(|segment| segment.notes("degraded")).collect::<Vec<_>>();
    until("what is refused of usage", || degraded().iter().any(|note| note.starts_with("what=io ")));
    let ticks = || place.all("usage").iter().map(|segment| segment.ticks().count()).sum::<usize>();
    until("two samples more", || ticks() >= 3);
    let said = degraded().iter().filter(|note| note.starts_with("what=io ")).count();
    assert_eq!(said, 1, "{:?}", degraded());
    assert_eq!(recorder.stop(), 0);
    let segment = place.ps();
    let row = &segment.rows_of(child.pid())[0];
    assert_eq!(
        (row.word("program"), row.word("user")),
        (b"sleep".to_vec(), b"root".to_vec()),
        "the name of the process stands in"
    );
    assert_eq!(row.get("read_bytes"), &Value::Refused, "another user's");
    assert!(row.number("rss") > 0);
    let refused =
        segment.rows().iter().filter(|row| row.values.contains(&Value::Refused)).map(|row| row.number("pid")).collect::<BTreeSet<_>>();
    let told: u64 = segment.ticks().map(|tick| tick.count("refused").unwrap()).max().unwrap();
    assert!(told >= 1 && told <= refused.len() as u64, "{told} of {refused:?}");
    place.assert_whole();
}
