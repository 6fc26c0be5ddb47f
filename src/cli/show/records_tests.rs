use super::*;

fn plan(form: Form) -> Plan {
    let filter = Filter::new(Stream::Ps, &[], &[], &[]).unwrap();
    Plan { stream: Stream::Ps, form, columns: Vec::new(), filter, notes: false }
}

fn shown(text: &str, live: bool, plan: &Plan) -> (String, LeftOut) {
    let (mut out, mut left_out) = (String::new(), LeftOut::default());
    read(text.as_bytes(), live, plan, &mut left_out, |record| {
        out.push_str(std::str::from_utf8(&record.line).unwrap());
        Ok(())
    })
    .unwrap()
    .unwrap();
    (out, left_out)
}

const TIME: &str = "2026-11-20T17:02:10.000+01:00";

/// Lines and the tick that closes them, after what was written since the tick before.
fn sample(before: &str, lines: &str) -> String {
    let tick = format!("#tick {TIME} seq=1 n=1");
    let crc = crc32fast::hash([before, lines, &tick].concat().as_bytes());
    format!("{before}{lines}{tick} crc={crc:08x}\n")
}

fn head() -> String {
    "#psmon 1 ps seg=1 host=h\n#cols time pid later cmd\n#help none\n".to_owned()
}

#[test]
fn what_no_tick_proves_is_left_out_and_counted() {
    let good = sample(&head(), &format!("{TIME} 1 x 'one word\n"));
    let rows = format!("{TIME} 2 x two\n{TIME} 3 x three\n");
    let one = format!("{TIME} 1 x 'one word\n");
    let torn = format!("{good}{rows}half a l\n#note {TIME} torn rows=2 bytes=9\n");
    for (text, live, torn, open) in [
        (good.clone(), false, 0, 0),
        (format!("{good}{rows}"), false, 2, 0),
        (format!("{good}{rows}{TIME} 4 x fo"), true, 0, 2),
        (torn, true, 2, 0),
        (format!("{good}{rows}#tick {TIME} seq=2 n=2 crc=00000000\n"), false, 2, 0),
    ] {
        let (out, left_out) = shown(&text, live, &plan(Form::Text));
        assert_eq!((out, left_out.torn, left_out.open, left_out.unreadable), (one.clone(), torn, open, 0), "{text}");
    }
}

#[test]
fn notes_stay_even_where_rows_were_torn() {
    let good = sample(&head(), &format!("{TIME} 1 x one\n"));
    let text = format!("{good}#note {TIME} stop by=x\n{TIME} 2 x two\n#note {TIME} torn rows=1 bytes=9\n");
    let (out, left_out) = shown(&text, true, &Plan { notes: true, ..plan(Form::Text) });
    let kinds: Vec<&str> = out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((kinds, left_out.torn), (vec![TIME, "#tick", "#note", "#note"], 1), "{out}");
}

#[test]
fn columns_of_a_later_version_are_shown_in_every_form() {
    let text = sample(&head(), &format!("{TIME} 7 a,b cat x\n#gone {TIME} 9@12 exit\n"));
    assert_eq!(
        shown(&text, false, &plan(Form::Json)).0,
        format!(
            "{{\"stream\":\"ps\",\"rec\":\"row\",\"time\":\"{TIME}\",\"pid\":7,\"later\":\"a,b\",\"cmd\":[\"cat\",\"x\"]}}\n\
             {{\"stream\":\"ps\",\"rec\":\"gone\",\"time\":\"{TIME}\",\"id\":\"9@12\",\"why\":\"exit\"}}\n"
        )
    );
    assert_eq!(shown(&text, false, &plan(Form::Csv)).0, format!("{TIME},7,\"a,b\",cat x\r\n"));
    let named = ["cmd", "rss", "pid"].map(|name| crate::record::schema::find(Stream::Ps, name).unwrap()).to_vec();
    let (out, _) = shown(&text, false, &Plan { columns: named, ..plan(Form::Text) });
    let words: Vec<&str> = out.lines().next().unwrap().split_ascii_whitespace().collect();
    assert_eq!(words, ["-", "7", "cat", "x"], "what a segment has not is -, and free text goes last");
}

#[test]
fn a_filter_whose_column_is_not_there_takes_nothing_and_says_so() {
    let text = sample(&head(), &format!("{TIME} 7 x cat\n"));
    let filter = Filter::new(Stream::Ps, &[], &["cat".to_owned()], &[]).unwrap();
    let (out, left_out) = shown(&text, false, &Plan { filter, ..plan(Form::Text) });
    assert!(out.is_empty() && left_out.missing.contains("program"));
    assert!(Filter::new(Stream::Usage, &[1], &[], &[]).is_err(), "programs have no pid");
}
