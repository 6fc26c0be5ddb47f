//! Which sockets processes hold: what their descriptors say joined to what the network namespaces say.
//!
//! A process is asked for its descriptors only ([`Held`]): which of them are sockets, and their inodes. What a socket is and how far
//! it has come is said by the network namespace it was made in, of all its sockets at once. Inodes of sockets are unique among all
//! namespaces, and a process may hold one that was made in another than its own (a helper of a container engine, whatever systemd
//! opened for a service): so there is one index for all.
//!
//! psmond's own namespace is read whenever it is asked for; the others in turn, whoever waited longest first, as many as the budget
//! of a tick allows. Nothing of a namespace is kept open between two readings: an open descriptor would keep it, and the devices in
//! it, from going away with its last process, and entering it again costs microseconds.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::facts::Reading;
use super::readers::{DEADLINE, Request};
use crate::source::namespace::{self, Visit};
use crate::source::sockets::{self as source, Kind, Socket, State, Way};
use crate::source::{ReadError, fds};

/// What the reading of a namespace is taken to cost before the first one: that from `/proc`.
const FIRST_COST: Duration = Duration::from_millis(5);

/// What a listing of a process's descriptors brought.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Held {
    /// The network namespace it is in: the inode of `/proc/PID/ns/net`.
    pub netns: u64,
    /// The inodes of its sockets, ascending, each once.
    pub inodes: Box<[u64]>,
    /// How many descriptors it has open.
    pub fds: u32,
}

impl Held {
    /// From a listing in a namespace.
    #[must_use]
    pub fn new(netns: u64, listed: fds::Listed) -> Self {
        Self { netns, inodes: listed.sockets, fds: listed.fds }
    }
}

/// How many sockets of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Established connections of TCP over IPv4.
    pub tcp: u64,
    /// Established connections of TCP over IPv6.
    pub tcp6: u64,
    /// Connected sockets of UDP over IPv4.
    pub udp: u64,
    /// Connected sockets of UDP over IPv6.
    pub udp6: u64,
    /// Connected unix sockets.
    pub unix: u64,
    /// Listening sockets of TCP over IPv4.
    pub tcp_listen: u64,
    /// Listening sockets of TCP over IPv6.
    pub tcp6_listen: u64,
    /// All sockets that are held, of whatever kind and state.
    pub sockets: u64,
}

impl Counts {
    fn add(&mut self, kind: Kind, state: State) {
        let place = match (kind, state) {
            (Kind::Tcp, State::Established) => &mut self.tcp,
            (Kind::Tcp6, State::Established) => &mut self.tcp6,
            (Kind::Udp, State::Established) => &mut self.udp,
            (Kind::Udp6, State::Established) => &mut self.udp6,
            (Kind::Unix, State::Established) => &mut self.unix,
            (Kind::Tcp, State::Listening) => &mut self.tcp_listen,
            (Kind::Tcp6, State::Listening) => &mut self.tcp6_listen,
            _ => return,
        };
        *place += 1;
    }
}

/// What the index knows of a socket.
#[derive(Clone, Copy, Debug)]
struct Entry {
    inode: u64,
    /// Of which namespace it is: see [`Namespace::number`].
    namespace: u32,
    kind: Kind,
    state: State,
}

/// What is remembered of a network namespace.
#[derive(Debug)]
struct Namespace {
    /// Its name in the index.
    number: u32,
    way: Way,
    /// When its sockets were read last.
    read_at: Option<Instant>,
    /// No way to its sockets was allowed when last it was tried.
    refused: bool,
    /// It is being read.
    asked: bool,
    /// Its last turn, counted by [`Sockets::turns`]; 0 before the first.
    turn: u64,
    /// What its reading costs, as the last one did.
    cost: Duration,
    /// The call of [`Sockets::requests`] that met it last, and who was found in it.
    met: u64,
    member: u32,
    /// Who turned out not to be in it any more.
    gone: Option<u32>,
}

/// The sockets of all network namespaces that processes are in.
#[derive(Debug)]
pub struct Sockets {
    own: Option<u64>,
    elsewhere: Way,
    namespaces: FxHashMap<u64, Namespace>,
    /// By inode, each once.
    index: Vec<Entry>,
    /// What came since the index was made, by the number of its namespace.
    fresh: Vec<(u32, Vec<Socket>)>,
    next_number: u32,
    turns: u64,
    calls: u64,
    /// What of the budget was not used, so that a namespace that costs more than a tick's budget has its turn too.
    credit: Duration,
    /// Counts the readings in which there was a socket that had not been there before.
    generation: u64,
    /// Some socket came, went or is in another state since somebody took this.
    pub changed: bool,
    /// A reading older than this says nothing any more.
    pub oldest: Duration,
}

impl Sockets {
    /// `native`: `/proc` is the kernel's own, so that a namespace found in it can be asked by diagnostics.
    #[must_use]
    pub fn new(native: bool) -> Self {
        let elsewhere = if native && Visit::is_allowed() { Way::Enter } else { Way::Files };
        Self::with(native.then(namespace::own).flatten(), elsewhere)
    }

    fn with(own: Option<u64>, elsewhere: Way) -> Self {
        Self {
            own,
            elsewhere,
            namespaces: FxHashMap::default(),
            index: Vec::new(),
            fresh: Vec::new(),
            next_number: 0,
            turns: 0,
            calls: 0,
            credit: Duration::ZERO,
            generation: 0,
            changed: true,
            oldest: Duration::MAX,
        }
    }

    /// Whether a namespace was met before.
    #[must_use]
    pub fn knows(&self, netns: u64) -> bool {
        self.namespaces.contains_key(&netns)
    }

    /// psmond's own network namespace; `None` where it is not known.
    #[must_use]
    pub const fn own(&self) -> Option<u64> {
        self.own
    }

    /// What to ask the readers in this tick: `in_use` names the network namespaces that processes are in, each with a member, as
    /// often as it likes; the others are forgotten. `budget` is for those that are not psmond's own: what a reading costs more than
    /// a tick has is saved up for.
    pub fn requests(&mut self, in_use: impl IntoIterator<Item = (u64, u32)>, budget: Duration) -> Vec<Request> {
        self.calls += 1;
        for (netns, pid) in in_use {
            self.meet(netns, pid);
        }
        let call = self.calls;
        let before = self.namespaces.len();
        self.namespaces.retain(|_, namespace| namespace.met == call);
        if self.namespaces.len() < before {
            let in_use: rustc_hash::FxHashSet<u32> = self.namespaces.values().map(|namespace| namespace.number).collect();
            self.index.retain(|entry| in_use.contains(&entry.namespace));
            self.fresh.retain(|(number, _)| in_use.contains(number));
        }
        let mut waiting: Vec<_> = self.namespaces.iter_mut().filter(|(_, namespace)| !namespace.asked).collect();
        waiting.sort_unstable_by_key(|(netns, namespace)| (namespace.way != Way::Here, namespace.turn, **netns));
        let first_cost = waiting.iter().find(|(_, namespace)| namespace.way != Way::Here).map_or(budget, |(_, first)| first.cost);
        self.credit = (self.credit + budget).min(budget.max(if budget.is_zero() { budget } else { first_cost }));
        let mut requests = Vec::new();
        for (netns, namespace) in waiting {
            if namespace.way != Way::Here {
                // Whoever waits longest is not passed by another that costs less.
                if self.credit < namespace.cost {
                    break;
                }
                self.credit -= namespace.cost;
            }
            self.turns += 1;
            (namespace.turn, namespace.asked) = (self.turns, true);
            requests.push(Request::Sockets { netns: *netns, pid: namespace.member, way: namespace.way });
        }
        requests
    }

    fn meet(&mut self, netns: u64, pid: u32) {
        let call = self.calls;
        let way = if self.own == Some(netns) { Way::Here } else { self.elsewhere };
        let next_number = &mut self.next_number;
        let namespace = self.namespaces.entry(netns).or_insert_with(|| {
            *next_number = next_number.wrapping_add(1);
            Namespace {
                number: *next_number,
                way,
                read_at: None,
                refused: false,
                asked: false,
                turn: 0,
                cost: FIRST_COST,
                met: 0,
                member: pid,
                gone: None,
            }
        });
        if namespace.met != call || namespace.gone == Some(namespace.member) {
            namespace.member = pid;
        }
        namespace.met = call;
    }

    /// Takes in what became of a request; `None` where it could not be had in time. It counts once [`Sockets::settle`] was called.
    pub fn take(&mut self, netns: u64, pid: u32, answer: Option<Result<source::Sockets, ReadError>>) {
        // It is forgotten: its last process ended meanwhile.
        let Some(namespace) = self.namespaces.get_mut(&netns) else { return };
        namespace.asked = false;
        match answer {
            Some(Ok(sockets)) => {
                self.changed |= namespace.read_at.is_none();
                namespace.read_at = Instant::now().checked_sub(sockets.took / 2);
                (namespace.refused, namespace.gone, namespace.cost) = (false, None, sockets.took);
                // Whoever may not enter it need not try again.
                if namespace.way == Way::Enter {
                    namespace.way = sockets.way;
                }
                self.fresh.push((namespace.number, sockets.found));
            }
            // Another member is asked, next time.
            Some(Err(ReadError::Vanished)) => namespace.gone = Some(pid),
            Some(Err(ReadError::NoDescriptor)) => {}
            Some(Err(ReadError::Refused | ReadError::Failed(_))) => {
                self.changed |= !namespace.refused;
                (namespace.refused, namespace.read_at) = (true, None);
                self.fresh.push((namespace.number, Vec::new()));
            }
            // It holds a thread up: seldom again.
            None => namespace.cost = DEADLINE,
        }
    }

    /// Brings the index up to date with what was taken.
    pub fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        if self.fresh.iter().all(|(number, found)| is_same(&self.index, *number, found)) {
            self.fresh.clear();
            return;
        }
        self.changed = true;
        let grew = self.fresh.iter().any(|(_, found)| has_new(&self.index, found));
        self.generation += u64::from(grew);
        let fresh = &self.fresh;
        self.index.retain(|entry| fresh.iter().all(|(number, _)| *number != entry.namespace));
        for (namespace, found) in self.fresh.drain(..) {
            self.index.extend(found.into_iter().map(|Socket { inode, state, kind }| Entry { inode, namespace, kind, state }));
        }
        // The readings come sorted: the stable sort merges them.
        self.index.sort_by_key(|entry| entry.inode);
    }

    /// Another number than before means that sockets were made: as long as it stays, whoever opened and closed nothing holds what it
    /// held.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// How many of these are sockets of a kind that is counted here, and still there.
    #[must_use]
    pub fn present(&self, inodes: &[u64]) -> u32 {
        let known = |inode: &&u64| self.index.binary_search_by_key(*inode, |entry| entry.inode).is_ok();
        u32::try_from(inodes.iter().filter(known).count()).unwrap_or(u32::MAX)
    }

    /// How many sockets these are, held by processes in `namespaces` (the set may name one twice). `inodes` must name each once: of a program the
    /// caller unites those of its processes. Those that are of no kind counted here, or younger than the last reading, count for
    /// `sockets` only.
    ///
    /// `Late` where the sockets of one of the namespaces could not be had yet, `Refused` where they may not be had; whoever holds no
    /// socket has none, wherever he is.
    pub fn count(&self, namespaces: impl IntoIterator<Item = u64>, inodes: impl IntoIterator<Item = u64>) -> Reading<Counts> {
        let mut inodes = inodes.into_iter().peekable();
        let mut counts = Counts::default();
        if inodes.peek().is_none() {
            return Reading::Known(counts);
        }
        let mut refused = false;
        for netns in namespaces {
            match self.namespaces.get(&netns) {
                Some(namespace) if namespace.refused => refused = true,
                Some(namespace) if namespace.read_at.is_some_and(|at| at.elapsed() < self.oldest) => {}
                _ => return Reading::Late,
            }
        }
        if refused {
            return Reading::Refused;
        }
        for inode in inodes {
            counts.sockets += 1;
            if let Some(entry) = self.index.binary_search_by_key(&inode, |entry| entry.inode).ok().and_then(|at| self.index.get(at)) {
                counts.add(entry.kind, entry.state);
            }
        }
        Reading::Known(counts)
    }

    /// When the sockets of a namespace were read last; `None` where they never were, or are refused.
    #[cfg(test)]
    pub fn read_at(&self, netns: u64) -> Option<Instant> {
        self.namespaces.get(&netns)?.read_at
    }

    /// How many network namespaces are in use, and of how many the sockets are known.
    #[cfg(test)]
    pub fn namespaces(&self) -> (usize, usize) {
        (self.namespaces.len(), self.namespaces.values().filter(|namespace| namespace.read_at.is_some()).count())
    }
}

/// Whether a namespace has exactly the sockets that the index holds of it.
fn is_same(index: &[Entry], number: u32, found: &[Socket]) -> bool {
    let known = index.iter().filter(|entry| entry.namespace == number).map(|entry| (entry.inode, entry.kind, entry.state));
    known.eq(found.iter().map(|socket| (socket.inode, socket.kind, socket.state)))
}

/// Whether somebody is in `found` who is not in the index; both ascend.
fn has_new(index: &[Entry], found: &[Socket]) -> bool {
    let mut known = index.iter().map(|entry| entry.inode).peekable();
    found.iter().any(|socket| {
        while known.next_if(|inode| *inode < socket.inode).is_some() {}
        known.peek() != Some(&socket.inode)
    })
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
