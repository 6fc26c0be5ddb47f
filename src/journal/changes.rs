//! Changes only: of a sample, the rows that say something new.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::record::identity::Identity;
use crate::record::sample::{Left, Row, Sample};
use crate::record::schema::{self, Column, Columns};
use crate::record::value::Value;

/// What was last written of each identity, and what makes a new row.
#[derive(Debug)]
pub struct Changes {
    columns: Vec<(&'static Column, Option<f64>)>,
    written: FxHashMap<Identity, Box<[Value]>>,
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
        Self { columns: columns.iter().filter(|column| column.name != "time").map(own).collect(), written: FxHashMap::default() }
    }

    /// Other thresholds. What was written stays known, so that what a reload hides is said to have left.
    pub fn set_thresholds(&mut self, thresholds: &BTreeMap<String, f64>) {
        for (column, own) in &mut self.columns {
            *own = thresholds.get(column.name).copied();
        }
    }

    /// Takes a sample's rows: those that must be written come back, and are remembered as written.
    ///
    /// A full sample begins anew.
    pub fn news(&mut self, sample: &mut Sample) -> News {
        let mut news = News::default();
        for left in sample.left.drain(..) {
            if self.written.remove(&left.id).is_some() {
                news.left.push(left);
            }
        }
        let rows = std::mem::take(&mut sample.rows);
        if sample.full {
            self.written.clear();
            self.written.reserve(rows.len());
        }
        for row in rows {
            if sample.full || self.is_news(&row) {
                match self.written.get_mut(&row.id) {
                    Some(before) => before.clone_from_slice(&row.values),
                    None => drop(self.written.insert(row.id, row.values.clone())),
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

    /// Forgets everything: the next sample must be full.
    pub fn forget(&mut self) {
        self.written.clear();
    }
}
