//! Watching the config file: when its content may have changed.
//!
//! A path is a chain: every component, and every component of every symlink on the way, is a name in
//! some directory. The directory of each link is watched for that name, and the file itself for being
//! written, so whichever link is replaced (an editor's rename, a ConfigMap's `..data`, `mv newdir dir`) is
//! seen. See inotify(7). Only a mount over one of the directories raises no event; SIGHUP serves then.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::future::poll_fn;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream as _;
use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio::time::{Instant, timeout_at};

/// A file is written in pieces, and an editor takes several steps: so long must nothing have happened.
const QUIET: Duration = Duration::from_secs(1);

/// As many symlinks as the kernel follows, path_resolution(7).
const MOST_LINKS: usize = 40;

/// Room for an event with the longest name, and for many of the usual ones.
const BUFFER: usize = 4096;

/// Watches one file, through whatever leads to it.
#[derive(Debug)]
pub struct Watcher {
    /// Absolute, so that the chain begins at the root.
    path: PathBuf,
    events: EventStream<Vec<u8>>,
    chain: Chain,
    quiet: Duration,
    /// When the last event came that has not yet been told. Kept here and not in the future, so that a
    /// future that lost a race is no change lost.
    last: Option<Instant>,
}

/// What is watched at present.
#[derive(Debug, Default)]
struct Chain {
    /// The names that matter in each directory.
    names: HashMap<WatchDescriptor, HashSet<OsString>>,
    /// The file at the end.
    file: Option<WatchDescriptor>,
}

/// What an event means for the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Another file's business.
    Nothing,
    /// The file was written; the chain holds.
    Written,
    /// Some link of the chain may be another now.
    Moved,
}

impl Watcher {
    /// Watches a file that may or may not exist yet. Must be called within a tokio runtime that drives I/O.
    ///
    /// # Errors
    /// The kernel refuses an inotify instance or a watch (`fs.inotify.max_user_instances`, `max_user_watches`).
    pub fn new(path: &Path) -> io::Result<Self> {
        Self::with_quiet(path, QUIET)
    }

    fn with_quiet(path: &Path, quiet: Duration) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let events = Inotify::init()?.into_event_stream(vec![0; BUFFER])?;
        let mut watcher = Self { path, events, chain: Chain::default(), quiet, last: None };
        watcher.walk()?;
        Ok(watcher)
    }

    /// Waits until the content may have changed and nothing has happened for 1 s. It may have stayed the
    /// same: compare. Dropping the future loses nothing. While nothing happens no timer runs.
    ///
    /// # Errors
    /// The kernel refuses to go on; a new watcher may do better.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let event = match self.last.map(|last| last + self.quiet) {
                // Asked first, so that a stream of other files' events cannot put the end off.
                Some(deadline) if Instant::now() >= deadline => None,
                Some(deadline) => timeout_at(deadline, next(&mut self.events)).await.ok(),
                None => Some(next(&mut self.events).await),
            };
            let Some(event) = event else {
                self.last = None;
                return Ok(());
            };
            match self.chain.meaning(&event?) {
                Meaning::Nothing => continue,
                Meaning::Written => {}
                // Before anything is told: what is written to the new file meanwhile must be seen too.
                Meaning::Moved => self.walk()?,
            }
            self.last = Some(Instant::now());
        }
    }

    /// Walks from the root to the file and watches each step before it looks at it, so that what changes
    /// behind its back is already in the queue.
    fn walk(&mut self) -> io::Result<()> {
        let mut watches = self.events.watches();
        let mut chain = Chain::default();
        let mut here = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = parts(&self.path);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                // `here` holds no symlinks, so its parent is the one the kernel means.
                here.pop();
                continue;
            }
            match watches.add(&here, in_directory()) {
                Ok(watch) => {
                    chain.names.entry(watch).or_default().insert(name.clone());
                }
                Err(error) if passing(&error) => {}
                Err(error) => return Err(error),
            }
            let next = here.join(&name);
            let Ok(found) = next.symlink_metadata() else { break };
            if found.is_symlink() {
                links += 1;
                let Ok(target) = next.read_link() else { break };
                if links > MOST_LINKS {
                    break;
                }
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            } else if found.is_dir() {
                here = next;
            } else {
                // The file has a watch of its own: it may be written through another name or another mount.
                match watches.add(&next, WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::ATTRIB | WatchMask::DONT_FOLLOW) {
                    Ok(watch) => chain.file = Some(watch),
                    Err(error) if passing(&error) => {}
                    Err(error) => return Err(error),
                }
                break;
            }
        }
        let before = std::mem::replace(&mut self.chain, chain);
        for watch in before.names.into_keys().chain(before.file) {
            if !self.chain.names.contains_key(&watch) && self.chain.file.as_ref() != Some(&watch) {
                // Gone with its directory already, as likely as not.
                let _ = watches.remove(watch);
            }
        }
        Ok(())
    }
}

impl Chain {
    fn meaning<S: AsRef<OsStr>>(&self, event: &Event<S>) -> Meaning {
        // What was dropped from a full queue may have been anything.
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return Meaning::Moved;
        }
        if self.file.as_ref() == Some(&event.wd) {
            let written = EventMask::MODIFY | EventMask::CLOSE_WRITE;
            return if written.contains(event.mask) { Meaning::Written } else { Meaning::Moved };
        }
        match (self.names.get(&event.wd), &event.name) {
            (None, _) => Meaning::Nothing,
            (Some(_), None) => Meaning::Moved,
            (Some(names), Some(name)) if names.contains(name.as_ref()) => Meaning::Moved,
            (Some(_), Some(_)) => Meaning::Nothing,
        }
    }
}

/// Writing is left out: files that are none of ours may be written all day in the same directory.
fn in_directory() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
        | WatchMask::DONT_FOLLOW
}

/// What vanished or was replaced meanwhile is told by the watch above it; what may not be read is passed by.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

async fn next(events: &mut EventStream<Vec<u8>>) -> io::Result<Event<OsString>> {
    poll_fn(|context| Pin::new(&mut *events).poll_next(context))
        .await
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::UnexpectedEof, "inotify ended")))
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
