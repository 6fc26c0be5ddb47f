//! Whose obituary is in the journal already: a recorder that was killed wrote some after its last state.

use std::path::Path;

use rustc_hash::FxHashSet;

use super::line::Line;
use super::reader::{self, RawLines, Reader};
use super::segment::Name;
use super::state::Position;
use super::{directory, state};
use crate::record::alive::Alive;
use crate::record::carried::Carried;
use crate::record::identity::{Domain, Identity};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// What the recorder before this one left behind.
#[derive(Debug, Default)]
pub struct Past {
    /// It recorded in this same boot and pid namespace: the identities it knew are those of today.
    pub same_domain: bool,
    /// Who was alive when it last counted and has no obituary since.
    pub alive: Vec<Alive>,
    /// `processes` of `/proc/stat` then, or at its last tick if that came later.
    pub processes: Option<u64>,
    /// What its accounts of CPU time knew.
    pub carried: Option<Box<Carried>>,
}

/// Reads what the recorder before this one left in a directory; `None` where there is no state of one.
#[must_use]
pub fn past(dir: &Path, domain: &Domain) -> Option<Past> {
    let state::Restored::State(state) = state::restore(dir) else { return None };
    let mut alive: Vec<Alive> = state.alive().collect();
    let same_domain = state.is_of(domain);
    let mut processes = state.processes;
    if same_domain {
        let since = since(dir, state.counted_at.unwrap_or(Position { seg: 0, offset: 0 }));
        alive.retain(|alive| !since.buried.contains(&alive.id));
        processes = processes.max(since.processes);
    }
    let carried = if same_domain { state.carried } else { state.carried.map(Carried::without_boot) };
    Some(Past { same_domain, alive, processes, carried })
}

/// What stream `exits` says from a position on.
#[derive(Debug, Default)]
struct Since {
    /// The identities in its rows, torn ones too: they are whole lines.
    buried: FxHashSet<Identity>,
    /// The newest `processes` of its ticks.
    processes: Option<u64>,
}

fn since(dir: &Path, from: Position) -> Since {
    let mut found = Since::default();
    let Ok(listed) = directory::list(dir) else { return found };
    let names: Vec<Name> = listed.into_iter().map(|found| found.name).filter(|name| name.stream == Stream::Exits.name()).collect();
    for name in names {
        let Ok(input) = reader::open(dir, &name) else { continue };
        let mut lines = RawLines::new(input);
        let mut reader = Reader::default();
        let mut after = 0;
        while let Ok(Some(raw)) = lines.read() {
            if matches!(raw.mark, reader::Mark::Row | reader::Mark::Tick) && raw.offset < after {
                continue;
            }
            match reader.read(&raw) {
                Some(Line::Header(header)) if header.seg < from.seg => break,
                Some(Line::Header(header)) if header.seg == from.seg => after = from.offset,
                Some(Line::Row { values, .. }) => found.buried.extend(identity(&reader, &values)),
                Some(Line::Tick(tick)) => found.processes = found.processes.max(tick.count("processes")),
                _ => {}
            }
        }
    }
    found
}

fn identity(reader: &Reader, values: &[Value]) -> Option<Identity> {
    // The first column is the time, which is no value.
    let number = |name| values.get(reader.names().position(name)?.checked_sub(1)?)?.number();
    Some(Identity { pid: u32::try_from(number("pid")?).ok()?, start: u64::try_from(number("start")?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::state::State;
    use crate::record::alive::Census;
    use crate::record::carried::OfBoot;

    fn alive(pid: u32) -> Alive {
        Alive { id: Identity { pid, start: 9 }, ppid: 1, uid: None, program: None, counted: None }
    }

    #[test]
    fn only_obituaries_after_the_count_are_taken_and_torn_ones_too() {
        let dir = tempfile::tempdir().unwrap();
        let head = "#psmon 1 exits seg=3 host=h boot=b pidns=1 tz=UTC hz=100 page=4096 cpus=1 version=0\n#cols time pid start how cmd\n";
        let row = |pid: u32| format!("2026-11-20T17:02:10.000000000+00:00 {pid} 9 exit x\n");
        let before = [head.to_owned(), row(1)].concat();
        let text = [before.clone(), row(2), row(3)[..20].to_owned()].concat();
        std::fs::write(dir.path().join("exits.log"), text).unwrap();
        let carried =
            Carried { boot: Some(OfBoot { tick_ns: 5, ..OfBoot::default() }), day: "2026-11-20".to_owned(), ..Carried::default() };
        let census = Census { alive: [1, 2, 3].map(alive).to_vec(), processes: Some(5), carried: Some(Box::new(carried)) };
        let domain = |boot_id: &str| Domain { boot_id: boot_id.into(), pidns: "1".into() };
        let state = State::new(&domain("b"), &census, Some(Position { seg: 3, offset: before.len() as u64 }), std::iter::empty());
        std::fs::write(dir.path().join(state::NAME), state.to_bytes().unwrap()).unwrap();
        let past = super::past(dir.path(), &domain("b")).unwrap();
        let left: Vec<u32> = past.alive.iter().map(|alive| alive.id.pid).collect();
        assert_eq!((left, past.same_domain, past.processes), (vec![1, 3], true, Some(5)));
        let other = super::past(dir.path(), &domain("another boot")).unwrap();
        assert_eq!((other.same_domain, other.alive.len()), (false, 3));
        // The day and the budgets hold in any boot, the clocks in their own.
        let boot = |past: Past| past.carried.map(|carried| (carried.day, carried.boot.is_some()));
        assert_eq!((boot(past), boot(other)), (Some(("2026-11-20".to_owned(), true)), Some(("2026-11-20".to_owned(), false))));
    }
}
