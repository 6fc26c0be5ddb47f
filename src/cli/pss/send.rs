//! `--send`: one line of JSON for each sample to a TCP server.
//!
//! A thread of its own connects and writes, so that no server holds up a sample: what it has no time for is dropped and counted.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::output::write_name;
use super::sums::{Of, Sums};
use crate::cli::{Failure, complain};
use crate::journal::json;
use crate::record::moment::Moment;

/// How long one address of the server is tried.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a server may take a line.
const WRITE: Duration = Duration::from_secs(5);
/// How often answers are thrown away while there is nothing to send.
const LISTEN: Duration = Duration::from_secs(1);
/// The pause after a failure: it doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// How long a server that says nothing more may take to refuse a line.
const REFUSE: Duration = Duration::from_millis(200);
/// How long the last line may take at the end.
const LAST: Duration = Duration::from_secs(1);
/// At most so much is thrown away before the next line has its turn.
const THROWN_AWAY: usize = 1 << 20;

/// Where to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// `HOST:PORT`, of an IPv6 address `[ADDRESS]:PORT`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && (!host.contains(':') || host.starts_with('[')));
        match parts.map(|(_, port)| port.parse::<u16>()) {
            Some(Ok(1..)) => Ok(Self(text.to_owned())),
            _ => Err("say HOST:PORT, as web1:7000 or [::1]:7000".to_owned()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sample as it is sent.
#[must_use]
pub fn line(time: Moment, host: &str, lost: u64, sums: &Sums) -> Vec<u8> {
    let totals = sums.totals;
    let mut out = format!("{{\"time\":\"{time}\",\"host\":").into_bytes();
    json::write_string(host.as_bytes(), &mut out);
    for (name, value) in [
        ("pss", totals.pss),
        ("swap_pss", totals.swap_pss),
        ("procs", totals.procs),
        ("refused", totals.refused),
        ("late", totals.late),
        ("lost", lost),
    ] {
        out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    }
    let groups = sums.rows.first().is_some_and(|row| matches!(row.of, Of::Group { .. }));
    out.extend_from_slice(if groups { b",\"groups\":[" } else { b",\"processes\":[" });
    for (at, row) in sums.rows.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"name\":" } else { b"{\"name\":" });
        write_name(row.name.as_deref(), &mut out);
        let (key, number) = match row.of {
            Of::Process { pid, .. } => ("pid", u64::from(pid)),
            Of::Group { procs, .. } => ("procs", procs),
        };
        let pss = row.memory.map_or_else(|| "null".to_owned(), |memory| memory.pss.to_string());
        out.extend_from_slice(format!(",\"{key}\":{number},\"pss\":{pss}}}").as_bytes());
    }
    out.extend_from_slice(b"]}\n");
    out
}

const CONNECTED: u8 = 1;
const BROKEN: u8 = 2;

#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    /// 0 before the first attempt.
    state: AtomicU8,
}

/// Sends lines; when dropped, the last one has a moment to go.
#[derive(Debug)]
pub struct Sender {
    target: Target,
    shared: Arc<Shared>,
    lines: Option<SyncSender<Vec<u8>>>,
    done: Receiver<()>,
}

impl Sender {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is none to be had.
    pub fn start(target: Target) -> Result<Self, Failure> {
        // One is under way, one waits; a third is lost.
        let (lines, to_send) = mpsc::sync_channel(1);
        let (tell, done) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let mut link =
            Link { target: target.clone(), shared: Arc::clone(&shared), stream: None, worked: false, pause: PAUSE, retry: Instant::now() };
        let work = move || {
            link.run(&to_send);
            let _ = tell.send(());
        };
        thread::Builder::new()
            .name("send".to_owned())
            .spawn(work)
            .map_err(|error| Failure::System(format!("a thread could not be started: {error}")))?;
        Ok(Self { target, shared, lines: Some(lines), done })
    }

    /// Hands a line over, or drops it: this never waits.
    pub fn send(&self, line: Vec<u8>) {
        if self.lines.as_ref().is_none_or(|lines| lines.try_send(line).is_err()) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many samples were not delivered until now.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// How it stands, for people.
    #[must_use]
    pub fn state(&self) -> String {
        let connected = if self.shared.state.load(Ordering::Relaxed) == CONNECTED { "connected" } else { "not connected" };
        format!("{}: {connected}, samples lost: {}", self.target, self.lost())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.lines = None;
        let _ = self.done.recv_timeout(LAST);
    }
}

/// The connection, as its thread has it.
struct Link {
    target: Target,
    shared: Arc<Shared>,
    stream: Option<TcpStream>,
    /// Whether it took a line already.
    worked: bool,
    pause: Duration,
    /// When to try again.
    retry: Instant,
}

impl Link {
    fn run(&mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            match lines.recv_timeout(LISTEN) {
                Ok(line) => {
                    if !self.deliver(&line) {
                        self.shared.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // An error shows again when the next line is written.
                Err(RecvTimeoutError::Timeout) => drop(self.stream.as_mut().map(throw_away)),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn deliver(&mut self, line: &[u8]) -> bool {
        loop {
            let Some(stream) = &mut self.stream else {
                if !self.connect() {
                    return false;
                }
                continue;
            };
            let Err(error) = write(stream, line) else {
                self.worked = true;
                self.pause = PAUSE;
                return true;
            };
            self.stream = None;
            self.says(false, &error);
            // What worked is tried again at once: a server that was restarted misses nothing. One that takes connections and no
            // lines waits like one that takes none.
            if !std::mem::take(&mut self.worked) {
                self.wait();
                return false;
            }
        }
    }

    fn connect(&mut self) -> bool {
        if Instant::now() < self.retry {
            return false;
        }
        match connect(&self.target) {
            Ok(stream) => {
                self.stream = Some(stream);
                self.says(true, &"connected");
                true
            }
            Err(error) => {
                self.wait();
                self.says(false, &error);
                false
            }
        }
    }

    fn wait(&mut self) {
        self.retry = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// Tells each change once, and the first state.
    fn says(&self, connected: bool, what: &dyn std::fmt::Display) {
        let now = if connected { CONNECTED } else { BROKEN };
        if self.shared.state.swap(now, Ordering::Relaxed) == now {
            return;
        }
        let follows = if connected { "" } else { "; samples are dropped and counted until it can be reached again" };
        complain(&format!("{}: {what}{follows}", self.target));
    }
}

/// Tries each address the name has.
fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in target.0.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT).and_then(|stream| stream.set_nonblocking(true).map(|()| stream)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Writes a line, and throws away whatever is answered meanwhile: a server that waits for its answers to be read would never read on.
fn write(stream: &mut TcpStream, line: &[u8]) -> io::Result<()> {
    let end = Instant::now() + WRITE;
    let mut rest = line;
    let mut is_silent = throw_away(stream)?;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let flags = if is_silent { PollFlags::OUT } else { PollFlags::OUT | PollFlags::IN };
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || wait_for(stream, flags, left)?.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not take a line in time"));
                }
                is_silent = is_silent || throw_away(stream)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // It says nothing more. It may have closed its half and still read; if it closed both, it refuses the line now.
    if is_silent && !wait_for(stream, PollFlags::empty(), REFUSE)?.is_empty() {
        return Err(stream.take_error()?.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()));
    }
    Ok(())
}

/// What of these comes true in time; errors and the end of both halves always do.
fn wait_for(stream: &TcpStream, flags: PollFlags, limit: Duration) -> io::Result<PollFlags> {
    let end = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::new(stream, flags)];
        match poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(fds[0].revents()),
        }
    }
}

/// Reads what was answered, for nothing; says whether nothing more will come.
fn throw_away(stream: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let mut thrown_away = 0;
    while thrown_away < THROWN_AWAY {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => thrown_away += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::names::By;
    use super::super::sums::tests::sums;
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    #[test]
    fn targets_have_a_host_and_a_port() {
        for right in ["web1:7000", "[::1]:7000", "10.0.0.1:1"] {
            assert_eq!(Target::parse(right).unwrap().to_string(), right);
        }
        for wrong in ["web1", "web1:", ":7000", "web1:0", "web1:70000", "::1:7000", ""] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_holds_the_totals_and_everyone() {
        let now = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 3600 };
        let line = line(now, "web1", 7, &sums(None, None));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&json["time"], &json["host"]), (&"2026-11-20T17:02:10.000+01:00".into(), &"web1".into()));
        assert_eq!(
            (&json["pss"], &json["procs"], &json["refused"], &json["lost"]),
            (&9_441_280.into(), &3.into(), &1.into(), &7.into())
        );
        let processes = json["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 6);
        assert_eq!(processes[5], serde_json::json!({ "name": "big, \"b\"", "pid": 1, "pss": 9_437_184 }));
        assert_eq!(processes[1], serde_json::json!({ "name": "secret", "pid": 4, "pss": null }));
        let groups: serde_json::Value = serde_json::from_slice(&super::line(now, "web1", 0, &sums(Some(By::User), None))).unwrap();
        assert_eq!(groups["groups"][0]["procs"], 3);
    }

    fn link(listener: &TcpListener) -> Link {
        Link {
            target: Target(listener.local_addr().unwrap().to_string()),
            shared: Arc::default(),
            stream: None,
            worked: false,
            pause: PAUSE,
            retry: Instant::now(),
        }
    }

    #[test]
    fn a_server_that_hung_up_is_met_again_with_the_same_line() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = link(&listener);
        assert!(link.deliver(b"one\n"));
        let (first, _) = listener.accept().unwrap();
        drop(first);
        assert!(link.deliver(b"two\n"), "no line is lost while it listens");
        let (second, _) = listener.accept().unwrap();
        let mut read = String::new();
        BufReader::new(second).read_line(&mut read).unwrap();
        assert_eq!(read, "two\n");
        drop(listener);
        assert!(!link.deliver(b"three\n") && link.retry > Instant::now() && link.pause == PAUSE * 2);
        assert!(!link.deliver(b"four\n"), "and it is not asked again at once");
    }

    #[test]
    fn a_server_may_chatter_and_one_that_closed_its_half_still_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = link(&listener);
        assert!(link.deliver(b"hello\n"));
        let (mut server, _) = listener.accept().unwrap();
        // It reads only once all it has to say was taken: more than any buffer holds.
        let chatter = thread::spawn(move || {
            server.write_all(&vec![b'x'; 8 << 20]).unwrap();
            server.shutdown(std::net::Shutdown::Write).unwrap();
            BufReader::new(server).lines().map(|line| line.unwrap().len()).collect::<Vec<_>>()
        });
        let long = [vec![b'y'; 4 << 20], b"\n".to_vec()].concat();
        assert!(link.deliver(&long));
        let limit = Instant::now() + Duration::from_secs(20);
        while !throw_away(link.stream.as_mut().unwrap()).unwrap() {
            assert!(Instant::now() < limit);
        }
        assert!(link.deliver(b"bye\n"));
        drop(link);
        assert_eq!(chatter.join().unwrap(), [5, 4 << 20, 3]);
    }
}
