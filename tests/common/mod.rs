//! A psmond under test, its directory, and what its journal says. Every wait is for a fact.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // helpers of tests are tests, and no test uses all

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use psmon::journal::line::{Header, Line, Tick};
use psmon::journal::reader::{RawLines, Reader, open};
use psmon::journal::segment::Name;
use psmon::journal::verify::{Report, verify};
use psmon::record::value::Value;
use tempfile::TempDir;

/// How long a fact may take to come true on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The program of the same build.
pub fn psmond() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_psmond"))
}

/// The tool of the same build.
pub fn psmon() -> Command {
    Command::new(env!("CARGO_BIN_EXE_psmon"))
}

/// How a program ended.
pub fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("a signal ended it: {output:?}"))
}

/// What it wrote.
pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it complained of.
pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits until a fact is true, and fails with what was waited for.
pub fn until(what: &str, fact: impl FnMut() -> bool) {
    until_within(LIMIT, what, fact);
}

/// Waits so long at most.
pub fn until_within(limit: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !fact() {
        assert!(Instant::now() < end, "not true after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Says loudly that a test was skipped, where the runner of `tests/run` finds it too.
pub fn skipped(test: &str, why: &str) {
    println!("SKIPPED {test}: {why}");
    if let Some(file) = std::env::var_os("PSMON_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}

/// Whether we are root; if not, the test is said to be skipped.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "needs root");
    }
    root
}

/// Whether a program is installed; if not, the test is said to be skipped.
pub fn has(test: &str, program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status().unwrap().success();
    if !found {
        skipped(test, &format!("{program} is not installed"));
    }
    found
}

/// A directory with a config and a place for logs.
pub struct Place {
    pub root: TempDir,
}

impl Place {
    /// A config of these lines, recording each second with interactive processes too, so that the tests' own children are
    /// recorded wherever the tests run.
    pub fn new(config: &str) -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        std::fs::write(place.config(), place.text(config)).unwrap();
        place
    }

    /// The same with stream `ps` alone, but for alerts, which cannot be switched off: for tests that count what stands in one file, or fill a disk with it.
    pub fn of_ps(config: &str) -> Self {
        let (top, ps) = config.split_once("ps:").unwrap_or((config, ""));
        Self::new(&format!(
            "{top}\n[pss]\nenabled = false\n[usage]\nenabled = false\n[credits]\nenabled = false\n[events]\nenabled = false\n[exits]\nenabled = false\nps:{ps}"
        ))
    }

    /// A whole config: `config` holds top-level keys first, then tables other than `[ps]`; its own `[ps]` keys follow the mark `ps:`.
    pub fn text(&self, config: &str) -> String {
        let (top, ps) = config.split_once("ps:").unwrap_or((config, ""));
        let log_dir = if top.contains("log_dir") { String::new() } else { format!("log_dir = {:?}\n", self.logs()) };
        let interval = if ps.contains("interval") { "" } else { "interval = \"1s\"\n" };
        format!("{log_dir}{top}\n[ps]\ninteractive = true\n{interval}{ps}\n")
    }

    pub fn config(&self) -> PathBuf {
        self.root.path().join("psmond.toml")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.logs().join(name)
    }

    /// The command of a psmond here.
    pub fn command(&self) -> Command {
        let mut command = Command::new(psmond());
        command.arg("-c").arg(self.config());
        command
    }

    /// Starts psmond here, its standard error in `stderr`.
    pub fn start(&self) -> Recorder {
        self.start_command(self.command())
    }

    /// Starts this command, its standard error in `stderr`.
    pub fn start_command(&self, mut command: Command) -> Recorder {
        let errors = std::fs::OpenOptions::new().append(true).create(true).open(self.root.path().join("stderr")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        // TZ and PSMON_* of whoever runs the tests are not ours.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PSMON_") {
                command.env_remove(name);
            }
        }
        Recorder { child: command.spawn().unwrap() }
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.root.path().join("stderr")).unwrap_or_default()
    }

    /// psmond's own log.
    pub fn own_log(&self) -> String {
        std::fs::read_to_string(self.file("psmond.log")).unwrap_or_default()
    }

    /// What the live segment of ps says now.
    pub fn ps(&self) -> Segment {
        Segment::read(&self.logs(), &Name::live("ps"))
    }

    /// What all segments of ps say, the oldest first.
    pub fn all_ps(&self) -> Vec<Segment> {
        self.all("ps")
    }

    /// What all segments of a stream say, the oldest first.
    pub fn all(&self, stream: &str) -> Vec<Segment> {
        let mut names: Vec<Name> = psmon::journal::directory::list(&self.logs())
            .unwrap_or_default()
            .into_iter()
            .map(|found| found.name)
            .filter(|name| name.stream == stream)
            .collect();
        names.sort_by_key(|name| (name.date.is_none(), name.date, name.number));
        names.iter().map(|name| Segment::read(&self.logs(), name)).collect()
    }

    /// Waits until the live segment of ps has at least so many ticks.
    pub fn wait_for_ticks(&self, count: usize) -> Segment {
        until(&format!("{count} ticks in ps.log; stderr: {}", self.stderr()), || self.ps().ticks().count() >= count);
        self.ps()
    }

    /// Waits until there are two more ticks than now: all that is true now is recorded then.
    pub fn wait_for_next_tick(&self) -> Segment {
        let now = self.last_seq();
        until("the next but one tick", || self.last_seq() >= now + 2);
        self.ps()
    }

    pub fn last_seq(&self) -> u64 {
        self.ps().ticks().filter_map(|tick| tick.count("seq")).last().unwrap_or(0)
    }

    pub fn verify(&self) -> Report {
        verify(&self.logs(), None).unwrap()
    }

    /// Asserts that the journal is whole, and is not empty.
    pub fn assert_whole(&self) -> Report {
        let report = self.verify();
        assert!(report.is_clean() && report.samples > 0, "{report:#?}");
        report
    }
}

/// A running psmond; it is killed when dropped.
pub struct Recorder {
    pub child: Child,
}

impl Recorder {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn hup(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Ends it as systemd would; its exit status.
    pub fn stop(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; its exit status.
    pub fn wait(&mut self) -> i32 {
        let mut status = None;
        until("psmond ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // Not for ever: a disk that a test has hung holds it until the disk is dropped too.
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A child of the test; it is killed when dropped.
pub struct Victim(pub Child);

impl Victim {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of `fixtures`, told what to do.
pub struct Target {
    pub child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Target {
    /// Compiles `fixtures/NAME.c` where that was not done yet, and starts it.
    pub fn new(place: &Place, name: &str) -> Self {
        Self::called(place, name, name)
    }

    /// The same as a program of another name.
    pub fn called(place: &Place, fixture: &str, name: &str) -> Self {
        Self::start(&mut Command::new(Self::binary(place, fixture, name)))
    }

    /// Where the program is, compiled.
    pub fn binary(place: &Place, fixture: &str, name: &str) -> PathBuf {
        let binary = place.root.path().join(name);
        if !binary.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{fixture}.c"));
            let status = Command::new("cc").args(["-O1", "-pthread", "-o"]).arg(&binary).arg(source).status().unwrap();
            assert!(status.success(), "cc: what links Rust programs compiles C");
        }
        binary
    }

    /// Starts whatever ends in such a program.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, commands, answers }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says it, to whoever will not answer.
    pub fn says(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Says it and waits until it is done; what it answered before that.
    pub fn does(&mut self, command: &str) -> String {
        self.says(command);
        let mut told = String::new();
        while !told.ends_with("ok\n") {
            assert!(self.answers.read_line(&mut told).unwrap() > 0, "{command}: it ended");
        }
        told.strip_suffix("ok\n").unwrap().trim().to_owned()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A user that owns nothing.
pub const NOBODY: u32 = 65534;

/// psmond as that user, who may read the config and nothing of ours besides. Needs root and setpriv.
pub fn as_nobody(place: &Place) -> Command {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(place.root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The program of the build may lie where only root may go.
    let program = place.root.path().join("psmond");
    if !program.exists() {
        std::fs::copy(psmond(), &program).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(program).arg("-c").arg(place.config());
    command.env_remove("HOME").current_dir("/");
    command
}

impl Place {
    /// Lets a user that owns nothing record here.
    pub fn let_nobody_write(&self) {
        std::fs::create_dir_all(self.logs()).unwrap();
        std::os::unix::fs::chown(self.logs(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// The `stat` of a made process.
pub fn made_stat(pid: u32) -> String {
    let zeros = " 0".repeat(30);
    format!(
        "{pid} (made) S 1 {pid} {pid} 0 -1 4194304 10 0 0 0 5 5 0 0 20 0 1 0 {} 8192000 100 18446744073709551615{zeros}\n",
        1000 + pid
    )
}

/// What a made `/proc` must have of a machine.
pub fn made_machine(root: &Path) {
    std::fs::create_dir_all(root.join("sys/kernel/random")).unwrap();
    std::fs::write(root.join("sys/kernel/random/boot_id"), "11111111-2222-3333-4444-555555555555\n").unwrap();
    std::fs::write(root.join("stat"), "cpu0 1 2 3\nprocesses 1000\n").unwrap();
}

/// A file system mounted by the test; it is unmounted when dropped.
pub struct Mount(pub PathBuf);

impl Mount {
    pub fn tmpfs(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "psmon-test"]).arg(&at).status().unwrap();
        assert!(status.success(), "mount -t tmpfs -o {options}");
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A segment, read.
pub struct Segment {
    pub name: String,
    pub header: Option<Header>,
    pub lines: Vec<Line>,
    /// Lines that could not be read, and ticks that do not check.
    pub damaged: usize,
}

/// One row with its columns' names.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedRow {
    pub time: psmon::record::moment::Moment,
    pub names: Vec<String>,
    pub values: Vec<Value>,
}

impl NamedRow {
    pub fn get(&self, name: &str) -> &Value {
        let at = self.names.iter().position(|column| column == name).unwrap_or_else(|| panic!("no column {name} in {:?}", self.names));
        &self.values[at]
    }

    pub fn number(&self, name: &str) -> i64 {
        self.get(name).number().unwrap_or_else(|| panic!("{name} is {:?}", self.get(name)))
    }

    pub fn word(&self, name: &str) -> Vec<u8> {
        match self.get(name) {
            Value::Word(word) => word.to_vec(),
            other => panic!("{name} is {other:?}"),
        }
    }
}

impl Segment {
    pub fn read(dir: &Path, name: &Name) -> Self {
        let mut segment = Self { name: name.to_string(), header: None, lines: Vec::new(), damaged: 0 };
        let Ok(input) = open(dir, name) else { return segment };
        let mut raw = RawLines::new(input);
        let mut reader = Reader::default();
        while let Some(line) = raw.read().unwrap() {
            match reader.read(&line).filter(|_| line.ended) {
                Some(Line::Tick(_)) if !line.checks => segment.damaged += 1,
                Some(line) => segment.lines.push(line),
                None => segment.damaged += 1,
            }
        }
        segment.header = reader.header().cloned();
        segment
    }

    pub fn ticks(&self) -> impl Iterator<Item = &Tick> {
        self.lines.iter().filter_map(|line| if let Line::Tick(tick) = line { Some(tick) } else { None })
    }

    /// Notes of a kind, their text.
    pub fn notes(&self, kind: &str) -> Vec<String> {
        let matching = |line: &Line| match line {
            Line::Note { kind: of, text, .. } if of == kind => Some(text.clone()),
            _ => None,
        };
        self.lines.iter().filter_map(matching).collect()
    }

    pub fn rows(&self) -> Vec<NamedRow> {
        let names: Vec<String> = self.header.as_ref().map(|header| header.columns[1..].to_vec()).unwrap_or_default();
        let row = |line: &Line| match line {
            Line::Row { time, values } => Some(NamedRow { time: *time, names: names.clone(), values: values.clone() }),
            _ => None,
        };
        self.lines.iter().filter_map(row).collect()
    }

    pub fn rows_of(&self, pid: u32) -> Vec<NamedRow> {
        self.rows().into_iter().filter(|row| row.number("pid") == i64::from(pid)).collect()
    }

    pub fn gone(&self) -> Vec<(String, String)> {
        let gone = |line: &Line| match line {
            Line::Gone { id, why, .. } => Some((id.clone(), why.clone())),
            _ => None,
        };
        self.lines.iter().filter_map(gone).collect()
    }

    /// Asserts that seq counts up by one through these segments.
    pub fn assert_no_sample_missing(segments: &[Self]) {
        let seqs: Vec<u64> = segments.iter().flat_map(Self::ticks).map(|tick| tick.count("seq").unwrap()).collect();
        assert!(!seqs.is_empty(), "there is no sample at all");
        for pair in seqs.windows(2) {
            assert_eq!(
                pair[1],
                pair[0] + 1,
                "seq of {:?}: {seqs:?}",
                segments.iter().map(|segment| &segment.name).collect::<Vec<_>>()
            );
        }
    }
}
