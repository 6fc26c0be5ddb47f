//! Rows as lines: `metric epoch value image=… type=…`, psstat's metrics and names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::select::measured;
use crate::journal::text::write_fixed;
use crate::record::identity::Id;
use crate::record::sample::Row;
use crate::record::schema;
use crate::record::stream::Stream;
use crate::record::value::Value;

/// Metrics with their `type` and the column they come from.
const METRICS: [(&str, Option<&str>, &str); 18] = [
    ("proc.stat.ps.io", Some("rchar"), "rchar"),
    ("proc.stat.ps.io", Some("wchar"), "wchar"),
    ("proc.stat.ps.io", Some("syscr"), "syscr"),
    ("proc.stat.ps.io", Some("syscw"), "syscw"),
    ("proc.stat.ps.io", Some("read_bytes"), "read_bytes"),
    ("proc.stat.ps.io", Some("write_bytes"), "write_bytes"),
    ("proc.stat.ps.io", Some("cancelled_write_bytes"), "cancelled_write_bytes"),
    ("proc.stat.ps.fd", Some("open"), "fds"),
    ("proc.stat.ps.threads", None, "threads"),
    ("proc.stat.ps.net", Some("tcp"), "tcp"),
    ("proc.stat.ps.net", Some("tcp6"), "tcp6"),
    ("proc.stat.ps.net", Some("udp"), "udp"),
    ("proc.stat.ps.net", Some("udp6"), "udp6"),
    ("proc.stat.ps.net", Some("unix"), "unix"),
    ("proc.stat.ps.pcpu", None, "cpu_pct"),
    ("proc.stat.ps.mem", Some("total"), "vsz"),
    ("proc.stat.ps.mem", Some("resident"), "rss"),
    // Not psstat's, whose dead service looks like a dead collector: of programs that are expected.
    (UP, None, "up"),
];
const UP: &str = "proc.stat.ps.up";
/// Not psstat's either: one of each cycle.
const PULSE: &str = "proc.stat.ps.collector";

/// A name may be of any length and a line is shorter than 1024 bytes, the tags that tcollector adds included.
const LONGEST_NAME: usize = 128;
/// Names that were said to be added up.
const MOST_SAID: usize = 10;

/// Whether a cycle has its sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// There was a sample, whether anything matched or not.
    Taken,
    /// There was none.
    Missed,
}

/// Writes lines.
#[derive(Debug)]
pub struct Lines {
    /// Where the columns stand in a row, with the digits of their values.
    at: Vec<Option<(usize, u8)>>,
    /// Images of several programs, of which that was said.
    said: BTreeSet<String>,
}

/// What several programs of one image sum up to; what is unknown of one is unknown of the sum.
struct Image {
    program: Arc<[u8]>,
    values: Vec<Option<i64>>,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// Of rows of stream `usage`.
    #[must_use]
    pub fn new() -> Self {
        let measured = measured(Stream::Usage);
        let place = |name: &str| {
            let digits = schema::find(Stream::Usage, name)?.kind.digits().unwrap_or(0);
            Some((measured.iter().position(|other| *other == name)?, digits))
        };
        Self { at: METRICS.iter().map(|(_, _, column)| place(column)).collect(), said: BTreeSet::new() }
    }

    /// Appends the lines of a sample; `complain` hears what whoever reads them must know.
    pub fn write(&mut self, second: i64, rows: &[Row], complain: &mut dyn FnMut(&str), out: &mut Vec<u8>) {
        let mut images: BTreeMap<String, Image> = BTreeMap::new();
        for row in rows {
            let Id::Program(program) = &row.id else { continue };
            let values = self.values(row);
            let name = clean(program);
            match images.get_mut(&name) {
                None => {
                    images.insert(name, Image { program: Arc::clone(program), values });
                }
                Some(image) => {
                    if !self.said.contains(&name) && self.said.len() < MOST_SAID {
                        let names = [&image.program, program].map(|program| program.escape_ascii().to_string());
                        complain(&format!(
                            "the programs '{}' and '{}' are both image={name} here: their values are added",
                            names[0], names[1]
                        ));
                        self.said.insert(name);
                    }
                    image.add(&values);
                }
            }
        }
        for (name, image) in &images {
            for (((metric, of_type, _), place), value) in METRICS.iter().zip(&self.at).zip(&image.values) {
                if let (Some((_, digits)), Some(value)) = (place, value) {
                    begin(metric, second, out);
                    write_fixed(*value, *digits, out);
                    out.extend_from_slice(b" image=");
                    out.extend_from_slice(name.as_bytes());
                    end(*of_type, out);
                }
            }
        }
    }

    /// Appends the line that each cycle has.
    pub fn pulse(&self, second: i64, pulse: Pulse, out: &mut Vec<u8>) {
        begin(PULSE, second, out);
        out.push(if pulse == Pulse::Taken { b'1' } else { b'0' });
        end(Some("sample"), out);
    }

    fn values(&self, row: &Row) -> Vec<Option<i64>> {
        let value = |at: usize| row.values.get(at).and_then(Value::number).filter(|number| *number >= 0);
        self.at.iter().map(|place| place.and_then(|(at, _)| value(at))).collect()
    }
}

impl Image {
    fn add(&mut self, others: &[Option<i64>]) {
        for (((metric, ..), value), other) in METRICS.iter().zip(&mut self.values).zip(others) {
            *value = match (*value, *other) {
                // Up is what all are that are expected at all.
                (value, other) if *metric == UP => value.into_iter().chain(other).min(),
                (Some(value), Some(other)) => value.checked_add(other),
                _ => None,
            };
        }
    }
}

fn begin(metric: &str, second: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(metric.as_bytes());
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(second).as_bytes());
    out.push(b' ');
}

fn end(of_type: Option<&str>, out: &mut Vec<u8>) {
    if let Some(of_type) = of_type {
        out.extend_from_slice(b" type=");
        out.extend_from_slice(of_type.as_bytes());
    }
    out.push(b'\n');
}

/// A name of letters, digits and `- _ . /`, which is all a tag may hold: `_` for each other letter, and for none at all.
fn clean(name: &[u8]) -> String {
    let mut clean = String::new();
    for chunk in name.utf8_chunks() {
        let allowed = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '-' | '_' | '.' | '/');
        clean.extend(chunk.valid().chars().map(|symbol| if allowed(symbol) { symbol } else { '_' }));
        clean.extend(chunk.invalid().iter().map(|_| '_'));
    }
    clean.truncate(LONGEST_NAME);
    if clean.is_empty() {
        clean.push('_');
    }
    clean
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::super::check::Checker;
    use super::*;

    /// A row of a program in which these columns are known, and all others do not exist.
    pub(in super::super) fn row(program: &[u8], known: &[(&str, Value)]) -> Row {
        let value = |name: &str| match known.iter().find(|(column, _)| *column == name) {
            Some((_, value)) => value.clone(),
            None if name == "program" => Value::word(program),
            None => Value::Absent,
        };
        Row { id: Id::Program(program.into()), values: measured(Stream::Usage).into_iter().map(value).collect() }
    }

    fn lines(rows: &[Row]) -> (Vec<String>, Vec<String>) {
        let (mut out, mut said) = (Vec::new(), Vec::new());
        Lines::new().write(1_795_190_530, rows, &mut |sentence| said.push(sentence.to_owned()), &mut out);
        (String::from_utf8(out).unwrap().lines().map(str::to_owned).collect(), said)
    }

    #[test]
    fn every_metric_is_psstats() {
        let known: Vec<(&str, Value)> = METRICS
            .iter()
            .enumerate()
            .map(|(at, (_, _, column))| {
                let number = i64::try_from(at).unwrap() + 1;
                (*column, if *column == "cpu_pct" { Value::Fixed(1230 + number) } else { Value::Int(number) })
            })
            .collect();
        let (lines, said) = lines(&[row(b"web", &known)]);
        assert_eq!(
            lines,
            [
                "proc.stat.ps.io 1795190530 1 image=web type=rchar",
                "proc.stat.ps.io 1795190530 2 image=web type=wchar",
                "proc.stat.ps.io 1795190530 3 image=web type=syscr",
                "proc.stat.ps.io 1795190530 4 image=web type=syscw",
                "proc.stat.ps.io 1795190530 5 image=web type=read_bytes",
                "proc.stat.ps.io 1795190530 6 image=web type=write_bytes",
                "proc.stat.ps.io 1795190530 7 image=web type=cancelled_write_bytes",
                "proc.stat.ps.fd 1795190530 8 image=web type=open",
                "proc.stat.ps.threads 1795190530 9 image=web",
                "proc.stat.ps.net 1795190530 10 image=web type=tcp",
                "proc.stat.ps.net 1795190530 11 image=web type=tcp6",
                "proc.stat.ps.net 1795190530 12 image=web type=udp",
                "proc.stat.ps.net 1795190530 13 image=web type=udp6",
                "proc.stat.ps.net 1795190530 14 image=web type=unix",
                "proc.stat.ps.pcpu 1795190530 124.5 image=web",
                "proc.stat.ps.mem 1795190530 16 image=web type=total",
                "proc.stat.ps.mem 1795190530 17 image=web type=resident",
                "proc.stat.ps.up 1795190530 18 image=web",
            ]
        );
        assert_eq!(said, [""; 0]);
    }

    #[test]
    fn what_is_unknown_is_left_out_and_never_zero() {
        let (lines, _) = lines(&[row(b"web", &[("fds", Value::Refused), ("threads", Value::Int(0)), ("cpu_pct", Value::Absent)])]);
        assert_eq!(lines, ["proc.stat.ps.threads 1795190530 0 image=web"]);
    }

    #[test]
    fn programs_of_one_image_are_added_and_that_is_said_once() {
        let known = |fds: Value, up: i64| [("fds", fds), ("threads", Value::Int(2)), ("up", Value::Int(up))];
        let rows = [
            row(b"a b", &known(Value::Int(3), 1)),
            row(b"a:b", &known(Value::Int(4), 0)),
            row(b"a_b", &known(Value::Int(5), 1)),
            row(b"c d", &known(Value::Int(1), 1)),
            row(b"c_d", &known(Value::Refused, 1)),
        ];
        let (lines, said) = lines(&rows);
        assert_eq!(
            lines,
            [
                "proc.stat.ps.fd 1795190530 12 image=a_b type=open",
                "proc.stat.ps.threads 1795190530 6 image=a_b",
                "proc.stat.ps.up 1795190530 0 image=a_b",
                "proc.stat.ps.threads 1795190530 4 image=c_d",
                "proc.stat.ps.up 1795190530 1 image=c_d",
            ],
            "of c_d nobody knows how many descriptors there are"
        );
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "the programs 'a b' and 'a:b' are both image=a_b here: their values are added");
    }

    #[test]
    fn names_are_cleaned() {
        for (name, cleaned) in [
            (&b"nginx"[..], "nginx"),
            (b"kworker/0:1-events", "kworker/0_1-events"),
            (b"Web Content", "Web_Content"),
            ("grün".as_bytes(), "gr_n"),
            (b"\xff\xfe", "__"),
            (b"a=b\nproc.stat.ps.fd 1 1 x=y", "a_b_proc.stat.ps.fd_1_1_x_y"),
            (b"", "_"),
        ] {
            assert_eq!(clean(name), cleaned);
        }
        assert_eq!(clean(&[b'x'; 5000]).len(), LONGEST_NAME);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Absent),
            Just(Value::Refused),
            any::<i64>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Fixed),
            Just(Value::word(b"x")),
        ]
    }

    proptest! {
        // Whatever programs are called and use, every line is one that tcollector takes.
        #[test]
        fn every_line_is_one_that_tcollector_takes(
            programs in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), proptest::collection::vec(any_value(), METRICS.len())), 0..8),
            second in 0_i64..99_999_999_999,
        ) {
            let rows: Vec<Row> = programs.iter().map(|(name, values)| {
                let known: Vec<(&str, Value)> = METRICS.iter().map(|(_, _, column)| *column).zip(values.iter().cloned()).collect();
                row(name, &known)
            }).collect();
            let mut out = Vec::new();
            let mut lines = Lines::new();
            lines.write(second.max(10), &rows, &mut |_| {}, &mut out);
            lines.pulse(second.max(10), Pulse::Taken, &mut out);
            let mut checker = Checker::default();
            checker.take(&String::from_utf8(out).unwrap());
            prop_assert_eq!(checker.wrong, Vec::<String>::new());
            prop_assert!(checker.points > 0);
        }
    }
}
