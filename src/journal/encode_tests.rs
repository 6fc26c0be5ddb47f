use super::*;
use crate::journal::line::{Line, Names, Tick};
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
        Kind::Seconds(_) | Kind::Percent(_) | Kind::UtilSeconds(_) | Kind::Credits(_) => any::<i64>().prop_map(Value::Fixed).boxed(),
        Kind::Word | Kind::Text | Kind::Time(_) => bytes().prop_map(|word| Value::Word(word.into())).boxed(),
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

fn row_of(stream: Stream) -> impl Strategy<Value = Vec<Value>> {
    Columns::standard(stream).iter().skip(1).map(|column| value(column.kind)).collect::<Vec<_>>()
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
    let id = Identity { pid: 1234, start: 8_839_201 }.into();
    let cmd = Value::Cmd(Cmd::from_args([b"nginx: worker process".as_slice()], 0).into());
    let values = vec![Value::Int(1234), Value::Int(8_839_201), Value::word(b"www-data"), Value::Fixed(123), Value::Int(48_234_496), cmd];
    let news = News {
        rows: vec![Row { id, values: values.into() }],
        left: vec![Left { id: Identity { pid: 1300, start: 8_840_022 }.into(), why: Why::Exit }],
    };
    let counts = Counts { seen: 312, hidden: 64, vanished: 1, late_ms: 0, read_us: 180, boottime_ms: 88_392_110, ..Counts::default() };
    let mut out = Vec::new();
    Format::Text.header(&header(Stream::Ps, 412, &facts(), &columns), &mut out);
    Format::Text.news(Stream::Ps, &columns, &when, &news, &mut out);
    Format::Text.tick(
        Stream::Ps,
        &when,
        &tick_fields(&counts, &[], false, &news, Ledger { seq: 881, shed: 0, prev_write_us: 35 }),
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

#[test]
fn an_obituary_reads_as_the_contract_shows_it() {
    let columns = Columns::for_journal(Stream::Exits, &["pid", "start", "how", "code", "lifetime_s", "cmd"]).unwrap();
    let time = Moment { unix_ns: 1_795_190_530_000_000_042, offset_s: 3600 };
    let cmd = Value::Cmd(Cmd::from_args([b"true".as_slice()], 0).into());
    let values = [Value::Int(1234), Value::Int(8_839_201), Value::word(b"exit"), Value::Int(0), Value::Fixed(1_250_000), cmd];
    let mut out = Vec::new();
    Format::Text.header(&header(Stream::Exits, 3, &facts(), &columns), &mut out);
    Format::Text.rows(Stream::Exits, &columns, &[TimedRow { time, values: values.into() }], &mut out);
    let ledger = Ledger { seq: 881, shed: 0, prev_write_us: 35 };
    let fields = flush_fields(1, &[("births", "2".to_owned()), ("lost", "0".to_owned())], ledger);
    Format::Text.tick(Stream::Exits, time.to_string().as_bytes(), &fields, &mut out);
    Format::Text.end_tick(0x9f3c_11d2, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text.lines().skip(1).collect::<Vec<_>>(),
        [
            "#cols time pid start how code lifetime_s cmd",
            "#help one row an obituary; a #tick each 10 s says how many were seen and lost; - does not exist, ? was refused or late; is it whole: psmon verify; live: psmon exits",
            "2026-11-20T17:02:10.000000042+01:00   1234  8839201 exit      0     1.250000 true",
            "#tick 2026-11-20T17:02:10.000+01:00 seq=881 n=1 births=2 lost=0 prev_write_us=35 crc=9f3c11d2",
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
        let row = Row { id: Identity { pid: 1, start: 1 }.into(), values: values.clone().into() };
        let news = News { rows: vec![row], left: vec![Left { id: Identity { pid: 7, start: 9 }.into(), why: Why::Exit }] };
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
        let fields = tick_fields(&counts, &[], true, &News::default(), Ledger { seq, shed: 0, prev_write_us: 1 });
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

    // Rows of a flush keep their nanoseconds, and its tick the fields of whoever made it, in their order.
    #[test]
    fn a_flush_comes_back(rows in proptest::collection::vec((0_i64..4_000_000_000_000_000_000, row_of(Stream::Exits)), 0..4), n in any::<u32>(), shed in 0_u64..3, crc in any::<u32>()) {
        let columns = Columns::standard(Stream::Exits);
        let names = Names::parse(Some(Stream::Exits), &columns.names());
        let rows: Vec<TimedRow> =
            rows.into_iter().map(|(unix_ns, values)| TimedRow { time: Moment { unix_ns, offset_s: -5400 }, values: values.into() }).collect();
        let due = Moment { unix_ns: 1_795_190_530_000_000_000, offset_s: 3600 };
        let own = [("births", "12".to_owned()), ("lost", "0".to_owned())];
        let fields = flush_fields(n.into(), &own, Ledger { seq: 7, shed, prev_write_us: 35 });
        for format in [Format::Text, Format::Json] {
            let mut out = Vec::new();
            format.rows(Stream::Exits, &columns, &rows, &mut out);
            format.tick(Stream::Exits, due.to_string().as_bytes(), &fields, &mut out);
            format.end_tick(crc, &mut out);
            let mut want: Vec<Line> = rows.iter().map(|row| Line::Row { time: row.time, values: row.values.to_vec() }).collect();
            let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
            want.push(Line::Tick(Tick { time: due, fields, crc }));
            prop_assert_eq!(lines(format, &out, &names), want);
        }
    }
}
