//! Stream `alerts`: what was found about processes and programs.
//!
//! What lasts is said twice: once when it begins (and again when it grows worse), and once, with level `ok`, when it is over. An
//! `ok` always follows what it ends: where that was one too many and not written, neither is its `ok`. A restart remembers none:
//! what still holds is said anew.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use crate::observer::names::Names;
use crate::observer::radar::LimitKind;
use crate::record::alert::{AlertKind, Level};
use crate::record::flush::TimedRow;
use crate::record::identity::Identity;
use crate::record::schema::Columns;
use crate::record::value::Value;
use crate::source::clock::Wall;

/// Rows a second; more are for nobody to read, and are counted.
const MOST_PER_S: u32 = 100;
/// Rows that may wait for the writer.
const KEPT: usize = 1000;
/// Alerts that stand at once, so that each can be ended.
const OPEN: usize = 10_000;

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// When it was found, nanoseconds since the epoch.
    pub unix_ns: i64,
    /// What.
    pub kind: AlertKind,
    /// How bad it is, or that it is over.
    pub level: Level,
    /// Of which program, where it is of one.
    pub program: Option<Arc<[u8]>>,
    /// Its user's id.
    pub owner: Option<u32>,
    /// Of which process, where it is of one: then it is ended for this process, whatever its program is by then.
    pub id: Option<Identity>,
    /// What was found, in the unit that the text names.
    pub value: Option<u64>,
    /// What it is measured by.
    pub limit: Option<u64>,
    /// Which limit it is about, where it is about one: the text names it.
    pub which: Option<LimitKind>,
    /// Of which budget, where it is of one: the text names it.
    pub budget: Option<Arc<[u8]>>,
    /// Sentences for people.
    pub text: Box<[u8]>,
}

impl Alert {
    /// Found now, of nobody yet.
    #[must_use]
    pub fn new(kind: AlertKind, level: Level, text: impl Into<Vec<u8>>) -> Self {
        Self {
            unix_ns: Wall::unix_ns(),
            kind,
            level,
            program: None,
            owner: None,
            id: None,
            value: None,
            limit: None,
            which: None,
            budget: None,
            text: text.into().into_boxed_slice(),
        }
    }

    fn subject(&self) -> Subject {
        let about = if let Some(budget) = &self.budget {
            // Several may be of one program, or of none.
            About::Budget(Arc::clone(budget))
        } else if self.kind == AlertKind::Limit || self.id.is_none() {
            // The process in it is the one nearest to its limit, which may be another by the time it is over.
            About::Program(self.program.clone(), self.which)
        } else {
            About::Process(self.id)
        };
        (self.kind, about)
    }

    fn value(&self, column: &str, names: &Names) -> Value {
        let count = |number: Option<u64>| number.map_or(Value::Absent, Value::count);
        match column {
            "kind" => Value::word(self.kind.word().as_bytes()),
            "level" => Value::word(self.level.word().as_bytes()),
            "program" => self.program.as_ref().map_or(Value::Absent, |program| Value::Word(Arc::clone(program))),
            "user" => self.owner.map_or(Value::Absent, |uid| Value::Word(names.user(uid))),
            "uid" => count(self.owner.map(u64::from)),
            "pid" => count(self.id.map(|id| id.pid.into())),
            // 0 as long as it could not be had.
            "start" => count(self.id.map(|id| id.start).filter(|start| *start != 0)),
            "value" => count(self.value),
            "limit" => count(self.limit),
            "text" => Value::word(&self.text),
            _ => Value::Absent,
        }
    }
}

/// What an `ok` and what it ends have in common.
type Subject = (AlertKind, About);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    Program(Option<Arc<[u8]>>, Option<LimitKind>),
    Process(Option<Identity>),
    Budget(Arc<[u8]>),
}

/// Alerts between two flushes.
#[derive(Debug)]
pub struct Alerts {
    columns: Option<Columns>,
    waiting: Vec<Alert>,
    /// What was said and is not over.
    open: FxHashSet<Subject>,
    /// The second that is counted, and how many rows it has.
    second: (u64, u32),
    /// Not written since the last tick.
    unwritten: u64,
    began: Instant,
}

impl Alerts {
    /// With these columns; `None` writes nothing.
    #[must_use]
    pub fn new(columns: Option<Columns>) -> Self {
        Self { columns, waiting: Vec::new(), open: FxHashSet::default(), second: (0, 0), unwritten: 0, began: Instant::now() }
    }

    /// The columns; `None` while the stream is off.
    #[must_use]
    pub const fn columns(&self) -> Option<&Columns> {
        self.columns.as_ref()
    }

    /// Whether rows wait.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds an alert.
    pub fn add(&mut self, alert: Alert) {
        if self.columns.is_none() {
            return;
        }
        let subject = alert.subject();
        if alert.kind.lasts() && alert.level == Level::Ok {
            // Of these there are no more than of what they end.
            if self.open.remove(&subject) {
                self.waiting.push(alert);
            }
            return;
        }
        let second = self.began.elapsed().as_secs();
        if self.second.0 != second {
            self.second = (second, 0);
        }
        let stands = alert.kind.lasts() && alert.level != Level::Info;
        let full = stands && self.open.len() >= OPEN && !self.open.contains(&subject);
        if self.second.1 >= MOST_PER_S || self.waiting.len() >= KEPT || full {
            self.unwritten += 1;
            return;
        }
        self.second.1 += 1;
        if stands {
            self.open.insert(subject);
        }
        self.waiting.push(alert);
    }

    /// The rows.
    pub fn rows(&mut self, names: &Names, wall: &mut Wall) -> Vec<TimedRow> {
        let Some(columns) = &self.columns else { return Vec::new() };
        let row = |alert: Alert| TimedRow {
            time: wall.at(alert.unix_ns),
            values: columns.iter().filter(|column| column.name != "time").map(|column| alert.value(column.name, names)).collect(),
        };
        self.waiting.drain(..).map(row).collect()
    }

    /// What its tick says: how many stand, and how many were not written since the one before.
    pub fn tick(&mut self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("open", self.open.len().to_string())];
        let unwritten = std::mem::take(&mut self.unwritten);
        if unwritten > 0 {
            fields.push(("unwritten", unwritten.to_string()));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::stream::Stream;
    use proptest::prelude::*;

    fn alerts() -> Alerts {
        Alerts::new(Some(Columns::standard(Stream::Alerts)))
    }

    fn stuck(pid: u32, level: Level) -> Alert {
        Alert { id: Some(Identity { pid, start: 5 }), ..Alert::new(AlertKind::Stuck, level, "x") }
    }

    #[test]
    fn a_row_says_what_was_found() {
        let mut alerts = alerts();
        let (names, mut wall) = (Names::default(), Wall::default());
        alerts.add(Alert {
            program: Some(b"web".as_slice().into()),
            owner: Some(33),
            id: Some(Identity { pid: 7, start: 0 }),
            value: Some(950),
            limit: Some(1000),
            ..Alert::new(AlertKind::Limit, Level::Warn, "it is near")
        });
        let rows = alerts.rows(&names, &mut wall);
        let word = |word: &str| Value::word(word.as_bytes());
        let want = [
            word("limit"),
            word("warn"),
            word("web"),
            word("33"),
            Value::Int(7),
            Value::Absent,
            Value::Int(950),
            Value::Int(1000),
            word("it is near"),
        ];
        assert_eq!(*rows[0].values, want);
        assert!(alerts.is_empty() && alerts.tick() == [("open", "1".to_owned())]);
    }

    #[test]
    fn a_limit_is_of_its_program_whoever_is_nearest() {
        let mut alerts = alerts();
        let near = |pid, level| Alert {
            program: Some(b"web".as_slice().into()),
            id: Some(Identity { pid, start: 1 }),
            ..Alert::new(AlertKind::Limit, level, "")
        };
        alerts.add(near(1, Level::Warn));
        alerts.add(near(2, Level::Crit));
        assert_eq!(alerts.tick(), [("open", "1".to_owned())]);
        alerts.add(near(3, Level::Ok));
        assert_eq!((alerts.waiting.len(), alerts.tick()), (3, vec![("open", "0".to_owned())]));
    }

    #[test]
    fn each_limit_of_a_program_stands_by_itself() {
        let mut alerts = alerts();
        let of =
            |which, level| Alert { program: Some(b"web".as_slice().into()), which: Some(which), ..Alert::new(AlertKind::Limit, level, "") };
        alerts.add(of(LimitKind::Nofile, Level::Warn));
        alerts.add(of(LimitKind::As, Level::Warn));
        assert_eq!(alerts.tick(), [("open", "2".to_owned())]);
        alerts.add(of(LimitKind::Nofile, Level::Ok));
        assert_eq!(alerts.tick(), [("open", "1".to_owned())]);
        alerts.add(of(LimitKind::Nofile, Level::Ok));
        alerts.add(of(LimitKind::As, Level::Ok));
        assert_eq!((alerts.waiting.len(), alerts.tick()), (4, vec![("open", "0".to_owned())]));
    }

    #[test]
    fn each_budget_stands_by_itself() {
        let mut alerts = alerts();
        let of = |budget: &[u8], program: Option<&[u8]>, level| Alert {
            program: program.map(Into::into),
            budget: Some(budget.into()),
            ..Alert::new(AlertKind::Budget, level, "")
        };
        for (name, program) in [(b"day", Some(b"web".as_slice())), (b"all", Some(b"web")), (b"ci_", None)] {
            alerts.add(of(name, program, Level::Warn));
        }
        assert_eq!(alerts.tick(), [("open", "3".to_owned())]);
        // It may be another's by then.
        alerts.add(of(b"day", None, Level::Ok));
        alerts.add(of(b"day", None, Level::Ok));
        assert_eq!((alerts.waiting.len(), alerts.tick()), (4, vec![("open", "2".to_owned())]));
    }

    #[test]
    fn what_is_too_much_is_counted_and_its_end_not_told() {
        let mut alerts = alerts();
        // A second may pass meanwhile.
        let many = 3 * MOST_PER_S;
        (0..many).for_each(|pid| alerts.add(stuck(pid, Level::Warn)));
        let written = alerts.waiting.len();
        assert!(written < many as usize && written >= MOST_PER_S as usize);
        assert_eq!(alerts.unwritten, u64::from(many) - written as u64);
        (0..many).for_each(|pid| alerts.add(stuck(pid, Level::Ok)));
        assert_eq!(alerts.waiting.len(), 2 * written, "each that was said is ended, no other");
        assert_eq!(alerts.tick()[0], ("open", "0".to_owned()));
        assert_eq!(alerts.tick().len(), 1, "counted once");
        alerts.add(stuck(1, Level::Ok));
        assert_eq!(alerts.waiting.len(), 2 * written, "an end of nothing");
    }

    #[test]
    fn a_stream_that_is_off_keeps_nothing() {
        let mut alerts = Alerts::new(None);
        alerts.add(stuck(1, Level::Warn));
        assert!(alerts.is_empty() && alerts.columns().is_none());
    }

    proptest! {
        // Per process: rows alternate so that each ok ends something, and what is open is what was said last and is not ok.
        #[test]
        fn an_ok_always_ends_something(said in proptest::collection::vec((0_u32..5, 0_usize..4), 0..300)) {
            let mut alerts = alerts();
            for (pid, level) in said {
                alerts.add(stuck(pid, [Level::Info, Level::Warn, Level::Crit, Level::Ok][level]));
            }
            let mut open = std::collections::BTreeSet::new();
            for alert in &alerts.waiting {
                match alert.level {
                    Level::Ok => prop_assert!(open.remove(&alert.id)),
                    Level::Info => {}
                    Level::Warn | Level::Crit => { open.insert(alert.id); }
                }
            }
            prop_assert_eq!(open.len(), alerts.open.len());
        }
    }
}
