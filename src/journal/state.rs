//! `psmond.state`: what a restart must know and the streams do not say.
//!
//! JSON, versioned, replaced whole once a minute, at each rotation and at stop. Without it psmond starts all
//! the same: it takes the numbers from the newest headers and ticks, and notes what cannot be known.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::alive::{Alive, Census};
use crate::record::carried::{Carried, Counted};
use crate::record::identity::Domain;
use crate::record::stream::Stream;

/// The file's name in the log directory.
pub const NAME: &str = "psmond.state";
/// The version this psmond writes; it reads no other.
const VERSION: u32 = 1;
/// A state is a few hundred bytes a process: what is larger than this is not ours.
const LARGEST: u64 = 256 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The boot the identities belong to.
    pub boot_id: String,
    /// The pid namespace they belong to; empty where an older psmond wrote the file.
    #[serde(default)]
    pub pidns: String,
    /// `processes` of `/proc/stat` when it was written.
    pub processes: Option<u64>,
    /// Last numbers by stream.
    pub streams: BTreeMap<String, Numbers>,
    /// Who was alive.
    pub alive: Vec<AliveEntry>,
    /// Where in stream `exits` they were counted: the obituaries of some of them may follow there.
    #[serde(default)]
    pub counted_at: Option<Position>,
    /// What the accounts of CPU time know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub carried: Option<Box<Carried>>,
}

/// A place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The segment.
    pub seg: u64,
    /// The offset in its uncompressed text.
    pub offset: u64,
}

/// The last numbers of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// Its last segment.
    pub seg: u64,
    /// Its last sample.
    pub seq: u64,
}

/// One living process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveEntry {
    /// `pid@start`.
    pub id: String,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its effective user's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The program it counted for, bytes that are not UTF-8 replaced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub program: Option<String>,
    /// What was counted of its CPU time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counted: Option<Counted>,
}

/// What a start finds.
#[derive(Debug)]
pub enum Restored {
    /// A state of this version.
    State(State),
    /// There is none: the first start, or it was lost.
    Missing,
    /// It cannot be used, for this reason.
    Damaged(String),
}

impl State {
    /// From what is known now.
    #[must_use]
    pub fn new(domain: &Domain, census: &Census, counted_at: Option<Position>, numbers: impl Iterator<Item = (Stream, u64, u64)>) -> Self {
        Self {
            version: VERSION,
            boot_id: domain.boot_id.clone(),
            pidns: domain.pidns.clone(),
            processes: census.processes,
            streams: numbers.map(|(stream, seg, seq)| (stream.name().to_owned(), Numbers { seg, seq })).collect(),
            alive: census
                .alive
                .iter()
                .map(|alive| AliveEntry {
                    id: alive.id.to_string(),
                    ppid: alive.ppid,
                    uid: alive.uid,
                    program: alive.program.as_ref().map(|program| String::from_utf8_lossy(program).into_owned()),
                    counted: alive.counted,
                })
                .collect(),
            counted_at,
            carried: census.carried.clone(),
        }
    }

    /// Whether its identities are of this domain.
    #[must_use]
    pub fn is_of(&self, domain: &Domain) -> bool {
        self.boot_id == domain.boot_id && (self.pidns.is_empty() || self.pidns == domain.pidns)
    }

    /// Who was alive; what is no identity is left out.
    pub fn alive(&self) -> impl Iterator<Item = Alive> + '_ {
        self.alive.iter().filter_map(|entry| {
            let program = entry.program.as_ref().map(|program| program.as_bytes().into());
            Some(Alive { id: entry.id.parse().ok()?, ppid: entry.ppid, uid: entry.uid, program, counted: entry.counted })
        })
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// It could not be written as JSON, which no value of it can cause.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Reads the state of a directory.
#[must_use]
pub fn restore(dir: &Path) -> Restored {
    let path = dir.join(NAME);
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Restored::Missing,
        Err(error) => return Restored::Damaged(error.to_string()),
        Ok(metadata) if !metadata.is_file() || metadata.len() > LARGEST => return Restored::Damaged("it is no file of ours".to_owned()),
        Ok(_) => {}
    }
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return Restored::Damaged(error.to_string()),
    };
    match serde_json::from_slice::<State>(&bytes) {
        Ok(state) if state.version == VERSION => Restored::State(state),
        Ok(state) => Restored::Damaged(format!("it is of version {}, and this psmond reads version {VERSION}", state.version)),
        Err(error) => Restored::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::identity::Identity;

    #[test]
    fn a_state_comes_back_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(restore(dir.path()), Restored::Missing));
        let alive = Alive {
            id: Identity { pid: 1, start: 2 },
            ppid: 0,
            uid: Some(0),
            program: Some(b"x\xff"[..].into()),
            counted: Some(Counted { cpu_ns: 7, ..Counted::default() }),
        };
        let census = Census {
            alive: vec![alive],
            processes: Some(99),
            carried: Some(Box::new(Carried {
                day: "2026-11-20".to_owned(),
                balances: [("b".to_owned(), 1.5)].into(),
                ..Carried::default()
            })),
        };
        let domain = Domain { boot_id: "boot".into(), pidns: "7".into() };
        let state = State::new(&domain, &census, Some(Position { seg: 7, offset: 99 }), [(Stream::Ps, 3, 44)].into_iter());
        std::fs::write(dir.path().join(NAME), state.to_bytes().unwrap()).unwrap();
        let Restored::State(back) = restore(dir.path()) else { panic!("it was whole") };
        assert_eq!(back, state);
        assert_eq!(back.alive().next().map(|alive| alive.id), Some(Identity { pid: 1, start: 2 }));
        for damage in [&b""[..], b"{", b"\xff\xff", b"{\"version\":9,\"boot_id\":\"\",\"processes\":null,\"streams\":{},\"alive\":[]}"] {
            std::fs::write(dir.path().join(NAME), damage).unwrap();
            assert!(matches!(restore(dir.path()), Restored::Damaged(_)), "{damage:?}");
        }
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        std::fs::create_dir(dir.path().join(NAME)).unwrap();
        assert!(matches!(restore(dir.path()), Restored::Damaged(_)));
    }
}
