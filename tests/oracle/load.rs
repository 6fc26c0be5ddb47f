//! A hostile load: processes that burn, sleep, grow, exec, rename, change user, stop, orphan and die.
//! Should the test be killed, the loops see that it is gone, and the sleepers have five minutes.

#![allow(unreachable_pub)] // of a test

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// The load; it ends, with all its descendants, when dropped.
pub struct Load {
    leaders: Vec<Child>,
    stop: Arc<AtomicBool>,
    tormentor: Option<JoinHandle<()>>,
    /// Burns a CPU all the time.
    pub burner: u32,
    /// Does nothing, for ever.
    pub sleeper: u32,
    _alone: MutexGuard<'static, ()>,
}

/// One load at a time, however many tests run.
static ONE: Mutex<()> = Mutex::new(());

/// A command in a process group of its own, so that all of it can be ended.
fn start(program: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("TEST", std::process::id().to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn shell(script: &str) -> Child {
    start("sh", &["-c", script])
}

impl Load {
    pub fn start() -> Self {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = rustix::process::geteuid().is_root();
        let burner = shell("while [ -d /proc/$TEST ]; do :; done");
        let sleeper = start("sleep", &["300"]);
        // One that does a little all the time, to be reniced and stopped from outside.
        let puppet = shell("while [ -d /proc/$TEST ]; do sleep 0.05; done");
        let (burner_pid, sleeper_pid, puppet_pid) = (burner.id(), sleeper.id(), puppet.id());
        let mut leaders = vec![burner, sleeper, puppet];
        // Short lives.
        leaders.extend((0..2).map(|_| shell("while [ -d /proc/$TEST ]; do /bin/true; sleep 0.03; done")));
        // Growing by a third of a megabyte.
        leaders.push(shell("x=; while [ -d /proc/$TEST ]; do x=$x$(head -c 300000 /dev/zero | tr '\\0' a); sleep 0.4; done"));
        // New names and new programs.
        leaders.push(shell(
            "while [ -d /proc/$TEST ]; do echo alpha >/proc/$$/comm; sleep 0.7; echo 'be ta)' >/proc/$$/comm; sleep 0.6; done",
        ));
        let again = "sleep $1; [ -d /proc/$TEST ] && exec sh -c \"$0\" \"$0\" $1 x$2";
        leaders.extend(["0.9", "0.3", "0.05"].map(|pause| start("sh", &["-c", again, again, pause, ""])));
        // Zombies, and children whose parent ends at some moment without their noticing.
        leaders.extend((0..3).map(|_| shell("(true) & (exit 3) & exec sleep 300")));
        for after in (3..20).step_by(2) {
            leaders.push(shell(&format!("sleep 300 & (sleep 300 & sleep {after}.37) & sleep {after}.91")));
        }
        if root {
            for after in [2, 5, 9, 14, 19] {
                leaders.push(shell(&format!("sleep {after}.2; exec setpriv --reuid=65534 --clear-groups sleep 300")));
            }
        }
        // With a terminal, where script(1) is installed; it must not have one of ours.
        if Command::new("sh").args(["-c", "command -v script"]).stdout(Stdio::null()).status().unwrap().success() {
            leaders.push(start("script", &["-qc", "sleep 300", "/dev/null"]));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let tormentor = std::thread::spawn(move || torment(puppet_pid, root, &stopped));
        Self { leaders, stop, tormentor: Some(tormentor), burner: burner_pid, sleeper: sleeper_pid, _alone: alone }
    }
}

fn pid(of: u32) -> Pid {
    Pid::from_raw(i32::try_from(of).unwrap()).unwrap()
}

/// From outside: renice, stop, continue; and threads of our own that come and go.
fn torment(puppet: u32, root: bool, stop: &AtomicBool) {
    let mut nice = 0;
    let mut round = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        if round.is_multiple_of(9) {
            nice = if root { (nice + 3) % 20 } else { (nice + 1).min(19) };
            let _ = rustix::process::setpriority_process(Some(pid(puppet)), nice);
        }
        if round.is_multiple_of(13) {
            let _ = rustix::process::kill_process(pid(puppet), Signal::STOP);
        } else if round % 13 == 7 {
            let _ = rustix::process::kill_process(pid(puppet), Signal::CONT);
        }
        std::thread::spawn(move || std::thread::sleep(Duration::from_millis(u64::from(round % 7) * 150)));
        std::thread::sleep(Duration::from_millis(170));
    }
    // What was reniced while it was stopped shows once it has run again: that is what the gate promises, and no more.
    let stopped = psmon::source::clock::process_cpu_ns(puppet);
    let _ = rustix::process::kill_process(pid(puppet), Signal::CONT);
    super::common::until("the puppet runs again", || psmon::source::clock::process_cpu_ns(puppet) != stopped);
}

impl Load {
    /// Stops all of it, so that nothing of it changes any more.
    pub fn freeze(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(tormentor) = self.tormentor.take() {
            tormentor.join().unwrap();
        }
        for leader in &self.leaders {
            let _ = rustix::process::kill_process_group(pid(leader.id()), Signal::STOP);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(tormentor) = self.tormentor.take() {
            let _ = tormentor.join();
        }
        for leader in &mut self.leaders {
            let _ = rustix::process::kill_process_group(pid(leader.id()), Signal::KILL);
            let _ = leader.wait();
        }
    }
}
