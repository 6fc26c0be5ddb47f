//! Sockets of real processes, as the kernel tells of them: by diagnostics and from `/proc`, here and in another network namespace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a test

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{has, is_root, skipped, until};
use psmon::observer::facts::{Reading, Wants};
use psmon::observer::readers::{Answer, Readers, Request};
use psmon::observer::sockets::{Counts, Held, Sockets};
use psmon::source::procdir::Proc;
use psmon::source::sockets::Way;

/// What a holder is to hold, and what it then has.
const CASES: [(&str, Counts); 5] = [
    ("both", Counts { tcp: 2, tcp6: 2, tcp_listen: 1, tcp6_listen: 1, sockets: 6, ..NONE }),
    ("mapped", Counts { tcp: 1, tcp6: 1, tcp6_listen: 1, sockets: 3, ..NONE }),
    ("unix", Counts { unix: 4, sockets: 6, ..NONE }),
    ("udp", Counts { udp: 1, udp6: 1, sockets: 4, ..NONE }),
    ("half", Counts { tcp_listen: 1, sockets: 2, ..NONE }),
];
const NONE: Counts = Counts { tcp: 0, tcp6: 0, udp: 0, udp6: 0, unix: 0, tcp_listen: 0, tcp6_listen: 0, sockets: 0 };

/// A listener and a connection to it, with both of its ends.
fn connection(address: (&str, u16), to: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let client = TcpStream::connect((to, listener.local_addr().unwrap().port())).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

/// Not a test of its own: the program that the others start to hold sockets. It says when it does, and waits until it is let go.
#[test]
fn holder() {
    let Ok(case) = std::env::var("PSMON_TEST_HOLD") else { return };
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    match case.as_str() {
        "both" => {
            held.push(Box::new(connection(("127.0.0.1", 0), "127.0.0.1")));
            held.push(Box::new(connection(("::1", 0), "::1")));
        }
        "mapped" => held.push(Box::new(connection(("::", 0), "127.0.0.1"))),
        "unix" => {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
            let client = UnixStream::connect(dir.path().join("socket")).unwrap();
            held.push(Box::new((listener.accept().unwrap(), listener, client)));
            held.push(Box::new((UnixStream::pair().unwrap(), UnixDatagram::unbound().unwrap())));
        }
        "udp" => {
            let v4: Vec<_> = (0..2).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
            v4[1].connect(v4[0].local_addr().unwrap()).unwrap();
            let v6: Vec<_> = (0..2).map(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap()).collect();
            v6[1].connect(v6[0].local_addr().unwrap()).unwrap();
            held.push(Box::new((v4, v6)));
        }
        "half" => {
            let (listener, mut client, server) = connection(("127.0.0.1", 0), "127.0.0.1");
            drop(server);
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "its peer has closed: it is in CLOSE_WAIT");
            held.push(Box::new((listener, client)));
        }
        other => panic!("{other}"),
    }
    println!("\nholding");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

/// Not a test of its own: a look at a process by whoever runs it, told as text.
#[test]
fn looker() {
    let Ok(pid) = std::env::var("PSMON_TEST_LOOK") else { return };
    let pid = pid.parse().unwrap();
    let mut look = Look::new();
    println!("\nlooked {:?} {:?}", look.at(pid, None), look.at(pid, Some(Way::Enter)));
}

fn ourselves(case: &str, launcher: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new(launcher.first().map_or(exe.as_os_str(), |first| first.as_ref()));
    if let Some((_, rest)) = launcher.split_first() {
        command.args(rest).arg(&exe);
    }
    command.args(["--exact", case, "--nocapture", "--test-threads=1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A process that holds sockets until it is dropped.
struct Holder {
    child: Child,
    /// Kept, so that it can go on writing.
    _out: BufReader<ChildStdout>,
}

impl Holder {
    fn start(case: &str, launcher: &[&str]) -> Self {
        let mut child = ourselves("holder", launcher).env("PSMON_TEST_HOLD", case).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        assert!(out.by_ref().lines().any(|line| line.unwrap() == "holding"), "the holder of {case} ended");
        Self { child, _out: out }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The observer's own means, without its loop.
struct Look {
    readers: Readers,
    sockets: Sockets,
}

impl Look {
    fn new() -> Self {
        let proc = Arc::new(Proc::open(Path::new("/proc")).unwrap());
        Self { readers: Readers::start(Arc::clone(&proc), Box::new(|| ())), sockets: Sockets::new(proc.is_native()) }
    }

    fn ask(&self, request: Request) -> Answer {
        self.readers.ask([request]);
        until("the reader answers", || self.readers.has_answers());
        let answer = self.readers.take().remove(0);
        assert!(self.readers.has_sockets() && self.readers.is_settled());
        answer
    }

    fn held(&self, pid: u32) -> Held {
        match self.ask(Request::Process { pid, start: None, wants: Wants::SOCKETS }) {
            Answer::Process { got: Some(got), .. } => got.held.unwrap().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// What a process has, and by which way its namespace was read: the one that would be taken, or this one.
    fn at(&mut self, pid: u32, way: Option<Way>) -> (Counts, Way) {
        let held = self.held(pid);
        assert!(held.fds >= 3 + u32::try_from(held.inodes.len()).unwrap());
        let requests = self.sockets.requests([(held.netns, pid)], Duration::from_secs(1));
        let [Request::Sockets { netns, pid: member, way: planned }] = requests[..] else { panic!("{requests:?}") };
        assert_eq!((netns, member), (held.netns, pid));
        let got = match self.ask(Request::Sockets { netns, pid, way: way.unwrap_or(planned) }) {
            Answer::Sockets { netns: of, pid: member, got: Some(got) } if (of, member) == (netns, pid) => got.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(got.damaged, 0);
        let gone = got.way;
        self.sockets.take(netns, pid, Some(Ok(got)));
        self.sockets.settle();
        match self.sockets.count([netns], held.inodes.iter().copied()) {
            Reading::Known(counts) => (counts, gone),
            other => panic!("{other:?}"),
        }
    }
}

/// Starts a program in a network namespace of its own, whose loopback is up.
const ELSEWHERE: [&str; 5] = ["unshare", "--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""];

#[test]
fn sockets_of_our_own_namespace() {
    if TcpListener::bind("[::1]:0").is_err() {
        skipped("sockets_of_our_own_namespace", "this machine has no IPv6");
        return;
    }
    let mut look = Look::new();
    for (case, want) in CASES {
        let holder = Holder::start(case, &[]);
        assert_eq!(look.at(holder.pid(), None), (want, Way::Here), "{case}");
        assert_eq!(look.at(holder.pid(), Some(Way::Files)), (want, Way::Files), "{case} from /proc");
    }
}

#[test]
fn sockets_of_another_namespace() {
    let name = "sockets_of_another_namespace";
    if !is_root(name) || !has(name, "unshare") || !has(name, "ip") {
        return;
    }
    let mut look = Look::new();
    let home = look.held(std::process::id()).netns;
    for (case, want) in CASES {
        let holder = Holder::start(case, &ELSEWHERE);
        let netns = look.held(holder.pid()).netns;
        assert_ne!(netns, home);
        assert_eq!(look.at(holder.pid(), None), (want, Way::Enter), "{case}");
        assert_eq!(look.at(holder.pid(), Some(Way::Files)), (want, Way::Files), "{case} from /proc");
        // Whoever visits another namespace comes home, and takes a pid of the wrong one for what it is.
        let wrong = look.ask(Request::Sockets { netns: home, pid: holder.pid(), way: Way::Enter });
        assert!(matches!(wrong, Answer::Sockets { got: Some(Err(psmon::source::ReadError::Vanished)), .. }), "{wrong:?}");
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let link = std::fs::read_link(task.unwrap().path().join("ns/net"));
            assert!(link.is_err() || link.unwrap().to_str() == Some(&format!("net:[{home}]")));
        }
    }
}

#[test]
fn as_the_packaged_unit_looks() {
    let name = "as_the_packaged_unit_looks";
    if !is_root(name) || !has(name, "unshare") || !has(name, "ip") || !has(name, "setpriv") {
        return;
    }
    let holder = Holder::start("both", &ELSEWHERE);
    let without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    let output = ourselves("looker", &without).env("PSMON_TEST_LOOK", holder.pid().to_string()).output().unwrap();
    let text = common::out(&output);
    let want = (CASES[0].1, Way::Files);
    // By the way it takes of itself, and by one that turns out to be refused.
    assert!(text.contains(&format!("looked {want:?} {want:?}")), "{text}{}", common::err(&output));
}

/// Sockets that were made elsewhere are held here all the same.
#[test]
fn a_socket_counts_wherever_it_was_made_and_once_for_all_who_hold_it() {
    let mut look = Look::new();
    let (one, other) = UnixStream::pair().unwrap();
    let inode = |socket: &UnixStream| rustix::fs::fstat(socket).unwrap().st_ino;
    let mut children: Vec<Child> = (0..2)
        .map(|_| {
            Command::new("cat")
                .stdin(Stdio::from(std::os::fd::OwnedFd::from(one.try_clone().unwrap())))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &children {
        until("cat has its socket only", || *look.held(child.id()).inodes == [inode(&one)]);
        assert_eq!(look.at(child.id(), None).0, Counts { unix: 1, sockets: 1, ..NONE });
    }
    let netns = look.held(children[0].id()).netns;
    let mut together: Vec<u64> = children.iter().flat_map(|child| look.held(child.id()).inodes).collect();
    together.sort_unstable();
    together.dedup();
    assert_eq!(look.sockets.count([netns], together), Reading::Known(Counts { unix: 1, sockets: 1, ..NONE }));
    drop((one, other));
    for child in &mut children {
        child.wait().unwrap();
    }
}
