//! A sample becomes the bytes of its lines.

use super::changes::News;
use super::line::Header;
use super::{json, text};
use crate::record::ledger::{FORMAT_VERSION, Facts, Note};
use crate::record::sample::Counts;
use crate::record::schema::Columns;
use crate::record::stream::Stream;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns, for people, grep and awk.
    Text,
    /// One object a line.
    Json,
}

/// What only the writer knows of a tick.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    /// Number of the sample.
    pub seq: u64,
    /// Rows that were shed to keep the stream's share.
    pub shed: u64,
    /// Time the sample before took to encode and write, microseconds.
    pub prev_write_us: u64,
}

/// The header of a segment.
#[must_use]
pub fn header(stream: Stream, seg: u64, facts: &Facts, columns: &Columns) -> Header {
    Header {
        version: FORMAT_VERSION,
        stream: stream.name().to_owned(),
        seg,
        fields: facts.fields().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        columns: columns.iter().map(|column| column.name.to_owned()).collect(),
        help: format!(
            "rows are changes; a sample with full=1 is complete; - does not exist, ? was refused or late; is it whole: psmon verify; the table now: psmon {stream}"
        ),
    }
}

impl Format {
    /// Appends a header.
    pub fn header(self, header: &Header, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_header(header, out),
            Self::Json => json::write_header(header, out),
        }
    }

    /// Appends a note.
    pub fn note(self, stream: Stream, note: &Note, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_note(note.time, note.kind.words(), &note.text, out),
            Self::Json => json::write_note(stream.name(), note.time, note.kind.words(), &note.text, out),
        }
    }

    /// Appends the rows of a sample and what left.
    pub fn news(self, stream: Stream, columns: &Columns, time: &[u8], news: &News, out: &mut Vec<u8>) {
        for row in &news.rows {
            match self {
                Self::Text => text::write_row(columns, time, &row.values, out),
                Self::Json => json::write_row(Some(stream.name()), columns, Some(time), &row.values, out),
            }
        }
        for left in &news.left {
            let id = left.id.to_string();
            match self {
                Self::Text => text::write_gone(time, &id, left.why.word(), out),
                Self::Json => json::write_gone(stream.name(), time, &id, left.why.word(), out),
            }
        }
    }

    /// Appends a tick up to its crc.
    pub fn tick(self, stream: Stream, time: &[u8], fields: &[(&str, String)], out: &mut Vec<u8>) {
        match self {
            Self::Text => text::write_tick(time, fields, out),
            Self::Json => json::write_tick(stream.name(), time, fields, out),
        }
    }

    /// Ends a tick.
    pub fn end_tick(self, crc: u32, out: &mut Vec<u8>) {
        match self {
            Self::Text => text::end_tick(crc, out),
            Self::Json => json::end_tick(crc, out),
        }
    }
}

/// The fields of a tick, in their order. seen = n + unchanged + hidden + vanished (+ shed).
#[must_use]
pub fn tick_fields(counts: &Counts, full: bool, news: &News, ledger: Ledger) -> Vec<(&'static str, String)> {
    let rows = news.rows.len() as u64;
    let rest = rows + counts.hidden + counts.vanished + ledger.shed;
    let mut fields = vec![
        ("seq", ledger.seq.to_string()),
        ("full", u8::from(full && ledger.shed == 0).to_string()),
        ("n", rows.to_string()),
        ("unchanged", counts.seen.saturating_sub(rest).to_string()),
        ("hidden", counts.hidden.to_string()),
        ("vanished", counts.vanished.to_string()),
        ("seen", counts.seen.to_string()),
        ("gone", news.left.len().to_string()),
        ("refused", counts.refused.to_string()),
        ("stuck", counts.stuck.to_string()),
        ("late_ms", counts.late_ms.to_string()),
        ("skipped", counts.skipped.to_string()),
        ("read_us", counts.read_us.to_string()),
        ("prev_write_us", ledger.prev_write_us.to_string()),
        ("boottime", format!("{}.{:03}", counts.boottime_ms / 1000, counts.boottime_ms % 1000)),
    ];
    if ledger.shed > 0 {
        fields.push(("shed", ledger.shed.to_string()));
    }
    if let Some(missed) = counts.gate_missed {
        fields.push(("gate_missed", missed.to_string()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::line::{Line, Names};
    use crate::record::cmd::Cmd;
    use crate::record::identity::Identity;
    use crate::record::ledger::{NoteKind, Why};
    use crate::record::moment::Moment;
    use crate::record::sample::{Left, Row};
    use crate::record::schema::Kind;
    use crate::record::value::Value;
    use proptest::prelude::*;

    fn facts() -> Facts {
        Facts {
            host: "web 1".to_owned(),
            boot: "3f2a9c".to_owned(),
            pidns: "4026531836".to_owned(),
            tz: "Europe/Berlin".to_owned(),
            hz: 100,
            page: 4096,
            cpus: 2,
            version: "0.1.0".to_owned(),
        }
    }

    fn all_columns() -> Columns {
        // In JSON the name of a kernel thread is said once, under `comm`; here it would be said twice, and differently.
        let names: Vec<_> =
            crate::record::schema::columns(Stream::Ps).iter().map(|column| column.name).filter(|name| *name != "comm").collect();
        Columns::for_journal(Stream::Ps, &names).unwrap()
    }

    fn value(kind: Kind) -> BoxedStrategy<Value> {
        let bytes = || {
            proptest::collection::vec(
                prop_oneof![3 => any::<u8>(), 1 => Just(b' '), 1 => Just(b'\\'), 1 => Just(b'x'), 1 => Just(b'\n')],
                0..12,
            )
        };
        let some = match kind {
            Kind::Count | Kind::Bytes | Kind::Ticks => any::<i64>().prop_map(Value::Int).boxed(),
            Kind::Seconds(_) | Kind::Percent(_) => any::<i64>().prop_map(Value::Fixed).boxed(),
            Kind::Word | Kind::Time(_) => bytes().prop_map(|word| Value::Word(word.into())).boxed(),
            Kind::Cmd => prop_oneof![
                proptest::collection::vec(bytes(), 0..4).prop_map(|args| {
                    let args: Vec<Vec<u8>> = args.into_iter().map(|arg| arg.into_iter().filter(|byte| *byte != 0).collect()).collect();
                    Value::Cmd(Cmd::from_args(args.iter().map(Vec::as_slice), 0).into())
                }),
                bytes().prop_map(|comm| Value::Cmd(Cmd::Comm(comm.into()).into())),
            ]
            .boxed(),
        };
        prop_oneof![1 => Just(Value::Absent), 1 => Just(Value::Refused), 6 => some].boxed()
    }

    fn row() -> impl Strategy<Value = Vec<Value>> {
        all_columns().iter().skip(1).map(|column| value(column.kind)).collect::<Vec<_>>()
    }

    fn lines(format: Format, bytes: &[u8], names: &Names) -> Vec<Line> {
        let parse = |line| match format {
            Format::Text => text::parse(line, names),
            Format::Json => json::parse(line, names),
        };
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| parse(line).unwrap()).collect()
    }

    #[test]
    fn a_sample_reads_as_the_contract_shows_it() {
        let columns = Columns::for_journal(Stream::Ps, &["pid", "start", "user", "cpu_pct", "rss", "cmd"]).unwrap();
        let time = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 3600 };
        let mut when = Vec::new();
        time.write(3, &mut when);
        let id = Identity { pid: 1234, start: 8_839_201 };
        let cmd = Value::Cmd(Cmd::from_args([b"nginx: worker process".as_slice()], 0).into());
        let values =
            vec![Value::Int(1234), Value::Int(8_839_201), Value::word(b"www-data"), Value::Fixed(123), Value::Int(48_234_496), cmd];
        let news = News {
            rows: vec![Row { id, values: values.into() }],
            left: vec![Left { id: Identity { pid: 1300, start: 8_840_022 }, why: Why::Exit }],
        };
        let counts = Counts { seen: 312, hidden: 64, vanished: 1, late_ms: 0, read_us: 180, boottime_ms: 88_392_110, ..Counts::default() };
        let mut out = Vec::new();
        Format::Text.header(&header(Stream::Ps, 412, &facts(), &columns), &mut out);
        Format::Text.news(Stream::Ps, &columns, &when, &news, &mut out);
        Format::Text.tick(
            Stream::Ps,
            &when,
            &tick_fields(&counts, false, &news, Ledger { seq: 881, shed: 0, prev_write_us: 35 }),
            &mut out,
        );
        Format::Text.end_tick(0x9f3c_11d2, &mut out);
        Format::Text.note(Stream::Ps, &Note::new(time, NoteKind::ReloadOk).with("file", "/etc/psmond.toml"), &mut out);
        let text = String::from_utf8(out).unwrap();
        let expected = "\
#psmon 1 ps seg=412 host=web\\x201 boot=3f2a9c pidns=4026531836 tz=Europe/Berlin hz=100 page=4096 cpus=2 version=0.1.0
#cols time pid start user cpu_pct rss cmd
";
        assert!(text.starts_with(expected), "{text}");
        let rest: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(
            rest,
            [
                "2026-11-20T17:02:10.000+01:00   1234  8839201 www-data  12.3   48234496 'nginx: worker process",
                "#gone 2026-11-20T17:02:10.000+01:00 1300@8840022 exit",
                "#tick 2026-11-20T17:02:10.000+01:00 seq=881 full=0 n=1 unchanged=246 hidden=64 vanished=1 seen=312 gone=1 refused=0 stuck=0 late_ms=0 skipped=0 read_us=180 prev_write_us=35 boottime=88392.110 crc=9f3c11d2",
                "#note 2026-11-20T17:02:10.000+01:00 reload ok file=/etc/psmond.toml",
            ]
        );
    }

    proptest! {
        // parse(write(row)) = row for any values, in both formats, one line each.
        #[test]
        fn rows_come_back(values in row(), seconds in 0_i64..4_000_000_000) {
            let columns = all_columns();
            let names = Names::parse(Some(Stream::Ps), &columns.names());
            let time = Moment { unix_ns: seconds * 1_000_000_000, offset_s: 3600 };
            let mut when = Vec::new();
            time.write(3, &mut when);
            let row = Row { id: Identity { pid: 1, start: 1 }, values: values.clone().into() };
            let news = News { rows: vec![row], left: vec![Left { id: Identity { pid: 7, start: 9 }, why: Why::Exit }] };
            for format in [Format::Text, Format::Json] {
                let mut out = Vec::new();
                format.news(Stream::Ps, &columns, &when, &news, &mut out);
                let want = vec![
                    Line::Row { time, values: values.clone() },
                    Line::Gone { time, id: "7@9".to_owned(), why: "exit".to_owned() },
                ];
                prop_assert_eq!(lines(format, &out, &names), want);
                prop_assert!(out.iter().all(|byte| *byte >= b' ' || *byte == b'\n'));
            }
        }

        // The same for ticks, notes and headers.
        #[test]
        fn the_ledger_comes_back(seq in any::<u64>(), seen in 0_u64..100_000, hidden in 0_u64..100, crc in any::<u32>(), word in "[ -~]{0,20}") {
            let columns = all_columns();
            let time = Moment { unix_ns: 1_795_190_530_123_000_000, offset_s: -7200 };
            let mut when = Vec::new();
            time.write(3, &mut when);
            let counts = Counts { seen, hidden, gate_missed: Some(3), ..Counts::default() };
            let fields = tick_fields(&counts, true, &News::default(), Ledger { seq, shed: 0, prev_write_us: 1 });
            let note = Note::new(time, NoteKind::FullDisk).with("why", &word);
            let header = header(Stream::Ps, seq, &Facts { host: word, ..facts() }, &columns);
            for format in [Format::Text, Format::Json] {
                let mut out = Vec::new();
                format.header(&header, &mut out);
                format.tick(Stream::Ps, &when, &fields, &mut out);
                format.end_tick(crc, &mut out);
                format.note(Stream::Ps, &note, &mut out);
                let lines = lines(format, &out, &Names::default());
                let Line::Header(back) = &lines[0] else { panic!("{lines:?}") };
                prop_assert_eq!((&back.fields, back.seg, &back.stream), (&header.fields, seq, &header.stream));
                let Line::Tick(tick) = &lines[lines.len() - 2] else { panic!("{lines:?}") };
                prop_assert_eq!(tick.crc, crc);
                let want: Vec<_> = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
                prop_assert_eq!(&tick.fields, &want);
                prop_assert_eq!(&lines[lines.len() - 1], &Line::Note { time, kind: "full disk".to_owned(), text: note.text.clone() });
            }
        }
    }
}
