//! Changes only: of a sample, the rows that say something new.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::record::identity::Id;
use crate::record::ledger::Why;
use crate::record::sample::{Left, Row, Sample};
use crate::record::schema::{self, Column, Columns};
use crate::record::value::Value;

/// What was last written of each process or program, and what makes a new row.
#[derive(Debug)]
pub struct Changes {
    columns: Vec<(&'static Column, Option<f64>)>,
    written: FxHashMap<Id, Box<[Value]>>,
    /// Left with a sample that was not written.
    unsaid: Vec<Left>,
}

/// What of a sample is to be written.
#[derive(Debug, Default)]
pub struct News {
    /// Rows.
    pub rows: Vec<Row>,
    /// What left.
    pub left: Vec<Left>,
}

impl Changes {
    /// With the thresholds of the config, by column name.
    #[must_use]
    pub fn new(columns: &Columns, thresholds: &BTreeMap<String, f64>) -> Self {
        let own = |column: &'static Column| (column, thresholds.get(column.name).copied());
        Self {
            columns: columns.iter().filter(|column| column.name != "time").map(own).collect(),
            written: FxHashMap::default(),
            unsaid: Vec::new(),
        }
    }

    /// Other thresholds. What was written stays known, so that what a reload hides is said to have left.
    pub fn set_thresholds(&mut self, thresholds: &BTreeMap<String, f64>) {
        for (column, own) in &mut self.columns {
            *own = thresholds.get(column.name).copied();
        }
    }

    /// Takes a sample's rows: those that must be written come back, and are remembered as written.
    ///
    /// A full sample begins anew. Rows of intervals are all news, and none is remembered.
    pub fn news(&mut self, sample: &mut Sample) -> News {
        if !sample.stream.stands() {
            return News { rows: std::mem::take(&mut sample.rows), left: Vec::new() };
        }
        let mut news = News::default();
        for left in sample.left.drain(..) {
            if self.written.remove(&left.id).is_some() {
                news.left.push(left);
            }
        }
        let rows = std::mem::take(&mut sample.rows);
        if sample.full {
            // Whoever is not in it left unsaid: with a sample that was dropped, or that no disk took.
            news.left.append(&mut self.unsaid);
            for row in &rows {
                self.written.remove(&row.id);
            }
            let mut unsaid: Vec<Left> = self.written.drain().map(|(id, _)| Left { id, why: Why::Exit }).collect();
            unsaid.sort_by(|one, other| one.id.cmp(&other.id));
            news.left.append(&mut unsaid);
            self.written.reserve(rows.len());
        }
        for row in rows {
            if sample.full || self.is_news(&row) {
                match self.written.get_mut(&row.id) {
                    Some(before) => before.clone_from_slice(&row.values),
                    None => drop(self.written.insert(row.id.clone(), row.values.clone())),
                }
                news.rows.push(row);
            }
        }
        news
    }

    fn is_news(&self, row: &Row) -> bool {
        let Some(written) = self.written.get(&row.id) else { return true };
        let mut values = self.columns.iter().zip(written.iter().zip(&row.values));
        values.any(|((column, own), (before, now))| schema::differs(column, *own, before, now))
    }

    /// These were to be said to have left, and were not: the next full sample says it.
    pub fn unsaid(&mut self, left: Vec<Left>) {
        self.unsaid.extend(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::identity::Identity;
    use crate::record::ledger::Facts;
    use crate::record::moment::Moment;
    use crate::record::sample::Counts;
    use crate::record::stream::Stream;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn columns() -> Columns {
        Columns::for_journal(Stream::Ps, &["pid", "start", "state", "cpu_pct", "cpu_s", "rss", "min_flt", "user"]).unwrap()
    }

    fn sample(full: bool, rows: Vec<Row>, left: Vec<Left>) -> Sample {
        let facts = Facts {
            host: String::new(),
            boot: String::new(),
            pidns: String::new(),
            tz: String::new(),
            hz: 100,
            page: 4096,
            cpus: 1,
            version: String::new(),
        };
        let due = Moment { unix_ns: 0, offset_s: 0 };
        Sample {
            stream: Stream::Ps,
            facts: Arc::new(facts),
            columns: columns(),
            due,
            full,
            rows,
            left,
            counts: Counts::default(),
            totals: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn row(pid: u32, values: (u8, i64, i64, i64, i64, u8)) -> Row {
        let (state, pct, cpu, rss, faults, user) = values;
        let id = Identity { pid, start: 1 }.into();
        let state = [b"R", b"S", b"D"][usize::from(state % 3)];
        let user = if user == 0 { Value::Refused } else { Value::word(&[b'a' + user % 3]) };
        let values = [
            Value::Int(pid.into()),
            Value::Int(1),
            Value::word(state),
            Value::Fixed(pct),
            Value::Fixed(cpu),
            Value::Int(rss),
            Value::Int(faults),
            user,
        ];
        Row { id, values: values.into() }
    }

    type Values = (u8, i64, i64, i64, i64, u8);

    fn values() -> impl Strategy<Value = Values> {
        (any::<u8>(), 0_i64..100, 0_i64..5000, 0_i64..10_000_000, 0_i64..100, 0_u8..4)
    }

    proptest! {
        // For any course of the table: what a reader rebuilds from the news is the table, to within the thresholds;
        // nothing is written that differs from what was written by less; nothing unchanged is written twice.
        #[test]
        fn the_table_can_be_rebuilt(course in proptest::collection::vec((any::<bool>(), proptest::collection::btree_map(1_u32..6, values(), 0..6)), 1..30)) {
            let columns = columns();
            let mut changes = Changes::new(&columns, &BTreeMap::new());
            let mut rebuilt: BTreeMap<Id, Box<[Value]>> = BTreeMap::new();
            let mut before: BTreeMap<u32, Values> = BTreeMap::new();
            for (at, (full, table)) in course.into_iter().enumerate() {
                let full = full || at == 0;
                let left: Vec<Left> = before.keys().filter(|pid| !table.contains_key(pid)).map(|pid| Left { id: Identity { pid: *pid, start: 1 }.into(), why: Why::Exit }).collect();
                // Between full samples only what was touched is handed on: here, what differs at all.
                let touched = table.iter().filter(|(pid, values)| full || before.get(pid) != Some(values));
                let rows: Vec<Row> = touched.map(|(pid, values)| row(*pid, *values)).collect();
                let mut sample = sample(full, rows, left.clone());
                let news = changes.news(&mut sample);
                prop_assert_eq!(news.left.len(), left.len());
                if full {
                    rebuilt.clear();
                }
                for gone in &news.left {
                    rebuilt.remove(&gone.id);
                }
                for row in &news.rows {
                    if !full && let Some(written) = rebuilt.get(&row.id) {
                        let differs = columns.iter().skip(1).zip(written.iter().zip(&row.values)).any(|(column, (old, new))| schema::differs(column, None, old, new));
                        prop_assert!(differs, "a row that says nothing new");
                    }
                    rebuilt.insert(row.id.clone(), row.values.clone());
                }
                prop_assert_eq!(rebuilt.keys().cloned().collect::<Vec<_>>(), table.keys().map(|pid| Id::from(Identity { pid: *pid, start: 1 })).collect::<Vec<_>>());
                for (pid, values) in &table {
                    let now = row(*pid, *values);
                    for (column, (written, now)) in columns.iter().skip(1).zip(rebuilt[&now.id].iter().zip(&now.values)) {
                        prop_assert!(!schema::differs(column, None, written, now), "{}: {written:?} is shown, {now:?} is true", column.name);
                    }
                }
                before = table;
            }
        }
    }

    #[test]
    fn a_full_sample_says_who_left_with_one_that_was_lost() {
        let mut changes = Changes::new(&columns(), &BTreeMap::new());
        let one = |pid| row(pid, (0, 0, 0, 0, 0, 1));
        changes.news(&mut sample(true, vec![one(1), one(2)], Vec::new()));
        let news = changes.news(&mut sample(true, vec![one(1)], Vec::new()));
        assert_eq!(news.left, [Left { id: Identity { pid: 2, start: 1 }.into(), why: Why::Exit }]);
        // What was to be said keeps its reason.
        let hidden = Left { id: Identity { pid: 1, start: 1 }.into(), why: Why::Hidden };
        let news = changes.news(&mut sample(false, Vec::new(), vec![hidden.clone()]));
        changes.unsaid(news.left);
        assert_eq!(changes.news(&mut sample(true, Vec::new(), Vec::new())).left, [hidden]);
    }

    #[test]
    fn own_thresholds_are_used() {
        let columns = columns();
        let own = BTreeMap::from([("rss".to_owned(), 0.0)]);
        for (thresholds, rows) in [(BTreeMap::new(), 0), (own, 1)] {
            let mut changes = Changes::new(&columns, &thresholds);
            changes.news(&mut sample(true, vec![row(1, (0, 0, 0, 1_000_000, 0, 1))], Vec::new()));
            let news = changes.news(&mut sample(false, vec![row(1, (0, 0, 0, 1_000_001, 0, 1))], Vec::new()));
            assert_eq!(news.rows.len(), rows);
        }
    }
}
