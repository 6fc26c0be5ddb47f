use super::*;
use crate::cli::credits::bill::Sum;

fn report(words: &[OsString]) -> Report<'_> {
    let name = |name: &str| Some(Arc::from(name.as_bytes()));
    Report {
        words,
        status: Some(Status(9)),
        wall: Duration::from_secs(2),
        bill: Bill {
            cpu_us: 90_000_000,
            split_us: Some((60_000_000, 30_000_000)),
            programs: vec![(name("cc"), Sum { processes: 12, cpu_us: 60_000_000 }), (None, Sum { processes: 1, cpu_us: 0 })],
            ends_us: 6_000_000,
            processes: 14,
            missing: 1,
            max_rss: Some(9_646_899),
            waited_us: 66_000_000,
            living_us: 24_000_000,
        },
        living: vec![Living {
            pid: 77,
            start: 5,
            comm: Arc::from(&b"a b"[..]),
            cpu_us: 24_000_000,
            user: 0,
            system: 0,
            waited_for: 0,
            max_rss: None,
        }],
        truth: Truth::Records,
        notes: vec!["lost 3 events".to_owned()],
    }
}

#[test]
fn people_read_a_figure_a_line_and_tables() {
    let words = ["make", "a b"].map(OsString::from);
    let mut out = Vec::new();
    report(&words).print(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "command   make a\\x20b\n\
         status    SIGKILL\n\
         wall_s    2.000000\n\
         user_s    60.000000\n\
         sys_s     30.000000\n\
         cpu_s     90.000000\n\
         credits   1.500000\n\
         util_s    9000.0000\n\
         cpu_pct   4500.0\n\
         processes 14 or more\n\
         max_rss   9.2M\n\
         \n\
         PROGRAM         PROCESSES     CPU_S  CREDITS\n\
         cc                     12 60.000000 1.000000\n\
         ?                       1  0.000000 0.000000\n\
         (at their ends)         -  6.000000 0.100000\n\
         \n\
         still lives: 1, cpu_s 24.000000 so far\n\
         \n\
         PROGRAM PID     CPU_S  CREDITS\n\
         a\\x20b   77 24.000000 0.400000\n\
         psmon: lost 3 events\n"
    );
}

#[test]
fn programs_read_one_object() {
    let words = ["make", "a b"].map(OsString::from);
    let mut out = Vec::new();
    report(&words).print_json(&mut out).unwrap();
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    let object: Json = serde_json::from_slice(&out).unwrap();
    assert_eq!(object["command"], json!(["make", "a b"]));
    assert_eq!((&object["how"], &object["code"], &object["signal"]), (&json!("signal"), &Json::Null, &json!("SIGKILL")));
    let number = |key: &str| object[key].as_f64().unwrap();
    assert_eq!(["cpu_s", "credits", "util_s", "cpu_pct"].map(number), [90.0, 1.5, 9000.0, 4500.0]);
    assert_eq!(["ends_cpu_s", "living_cpu_s", "wait4_cpu_s", "max_rss"].map(number), [6.0, 24.0, 66.0, 9_646_899.0]);
    assert_eq!(object["programs"][1]["program"], Json::Null);
    assert_eq!(object["living"][0]["program"], json!("a b"));
    assert_eq!(object["notes"], json!(["lost 3 events"]));
}

#[test]
fn what_nobody_knows_is_no_zero() {
    let words = [OsString::from("x")];
    let mut report = report(&words);
    report.bill = Bill { cpu_us: 5, ..Bill::default() };
    (report.status, report.living, report.notes, report.wall) = (None, Vec::new(), Vec::new(), Duration::ZERO);
    let mut out = Vec::new();
    report.print(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    for line in ["status    still running", "user_s    -", "sys_s     -", "cpu_pct   -", "max_rss   -"] {
        assert!(text.lines().any(|said| said == line), "{line} in {text}");
    }
}
