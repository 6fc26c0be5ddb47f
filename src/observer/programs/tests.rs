use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::rules::{Fact, Matcher, NamePart, NameTemplate};

fn text(name: &str) -> NameTemplate {
    NameTemplate { parts: vec![NamePart::Text(name.to_owned())] }
}

fn rule(name: &str) -> ProgramRule {
    ProgramRule {
        name: text(name),
        exe: None,
        comm: None,
        cmd: None,
        user: None,
        cgroup: None,
        unit: None,
        expect: None,
        children: true,
        multi: false,
        place: None,
    }
}

fn by_cmd(name: &str, pattern: &str) -> ProgramRule {
    ProgramRule { cmd: Some(pattern.to_owned()), ..rule(name) }
}

fn exact(text: &str) -> Option<Matcher> {
    Some(Matcher::Exact(text.to_owned()))
}

fn glob(text: &str) -> Option<Matcher> {
    Some(Matcher::Glob(text.to_owned()))
}

fn cmd(args: &[&str]) -> Cmd {
    Cmd::from_args(args.iter().map(|arg| arg.as_bytes()), 0)
}

fn named(rules: &[ProgramRule], subject: &Subject<'_>) -> Option<String> {
    let verdict = Programs::new(rules, &[]).verdict(subject)?;
    Some(String::from_utf8(verdict.program.to_vec()).unwrap())
}

#[test]
fn the_first_whose_conditions_all_hold() {
    let line = cmd(&["nginx: worker process"]);
    let nginx = Subject {
        comm: b"nginx",
        exe: Some(b"/usr/sbin/nginx (deleted)"),
        cmd: Some(&line),
        user: Some(b"www-data"),
        cgroup: Some(b"/system.slice/nginx.service"),
        unit: Some(b"nginx.service"),
        is_kthread: false,
    };
    let exe = ProgramRule { exe: glob("*/nginx"), ..rule("exe") };
    assert_eq!(named(&[by_cmd("no", "^apache"), exe.clone(), by_cmd("later", "worker")], &nginx).as_deref(), Some("exe"));
    assert_eq!(named(&[by_cmd("cmd", "worker proc"), exe], &nginx).as_deref(), Some("cmd"));
    let unit = ProgramRule { unit: glob("nginx.*"), cgroup: glob("/system.slice/*"), user: exact("www-data"), ..rule("all") };
    assert_eq!(named(std::slice::from_ref(&unit), &nginx).as_deref(), Some("all"));
    assert_eq!(named(&[ProgramRule { user: exact("root"), ..unit }], &nginx), None);
    let regex = ProgramRule { comm: Some(Matcher::Regex("^ngi".to_owned())), ..rule("regex") };
    assert_eq!(named(&[regex], &nginx).as_deref(), Some("regex"));
    // An exact name is the whole name, spaces and all.
    let spaced = Subject { comm: b"tmux: server", ..Subject::default() };
    let comm = |name: &str| ProgramRule { comm: exact(name), ..rule("tmux") };
    assert_eq!(named(&[comm("tmux"), comm("tmux: server")], &spaced).as_deref(), Some("tmux"));
    assert_eq!(named(&[comm("tmux")], &spaced), None);
}

#[test]
fn what_is_not_known_does_not_match_and_kernel_threads_never_do() {
    let all = [ProgramRule { exe: glob("*"), ..rule("exe") }, by_cmd("cmd", ""), ProgramRule { user: glob("*"), ..rule("user") }];
    assert_eq!(named(&all, &Subject { comm: b"x", ..Subject::default() }), None);
    let empty = cmd(&[]);
    let kthread = Subject { comm: b"kworker/0:1", cmd: Some(&empty), exe: Some(b""), is_kthread: true, ..Subject::default() };
    assert_eq!(named(&all, &kthread), None);
    // One that finds the empty text finds an empty command line.
    assert_eq!(named(&all[1..], &Subject { is_kthread: false, ..kthread }).as_deref(), Some("cmd"));
}

#[test]
fn names_are_filled_in() {
    let name = |parts: Vec<NamePart>| NameTemplate { parts };
    let line = cmd(&["postgres: 15/main: checkpointer"]);
    let subject =
        Subject { comm: b"postgres", exe: Some(b"/usr/lib/pg/postgres"), cmd: Some(&line), user: Some(b"pg"), ..Subject::default() };
    let parts = vec![
        NamePart::Fact(Fact::Exe),
        NamePart::Text("-".to_owned()),
        NamePart::Capture("cluster".to_owned()),
        NamePart::Text("-".to_owned()),
        NamePart::Number(1),
        NamePart::Fact(Fact::User),
    ];
    let captures = ProgramRule { name: name(parts), ..by_cmd("", r"(\d+)/(?P<cluster>\w+)") };
    assert_eq!(named(&[captures], &subject).as_deref(), Some("postgres-main-15pg"));
    // A capture that took no part leaves nothing; a fact that is not there is no name at all.
    let optional = ProgramRule { name: name(vec![NamePart::Text("x".to_owned()), NamePart::Number(1)]), ..by_cmd("", "(z)?post") };
    assert_eq!(named(&[optional], &subject).as_deref(), Some("x"));
    let unit = ProgramRule { name: name(vec![NamePart::Fact(Fact::Unit)]), ..by_cmd("", "post") };
    assert_eq!(named(&[unit, by_cmd("next", "post")], &subject).as_deref(), Some("next"));
    let long = "y".repeat(3000);
    let line = cmd(&[&long]);
    let whole = ProgramRule { name: name(vec![NamePart::Number(1)]), ..by_cmd("", "(y+)") };
    assert_eq!(named(&[whole], &Subject { cmd: Some(&line), ..subject }).unwrap().len(), rule::LONGEST_NAME);
}

#[test]
fn several_programs_and_what_children_are_of() {
    let multi = |name: &str, children: bool| ProgramRule { multi: true, children, ..by_cmd(name, "x") };
    let line = cmd(&["x"]);
    let subject = Subject { cmd: Some(&line), ..Subject::default() };
    let verdict = |rules: &[ProgramRule]| Programs::new(rules, &[]).verdict(&subject).unwrap();
    let words = |also: &Option<Also>| {
        also.iter().flat_map(|also| also.iter()).map(|name| String::from_utf8(name.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let found = verdict(&[multi("a", false), multi("b", true), multi("a", true), multi("b", true), by_cmd("last", "x"), by_cmd("no", "x")]);
    assert_eq!((found.rule, &*found.program, words(&found.also)), (0, &b"a"[..], vec!["b".to_owned(), "last".to_owned()]));
    let (children, others) = found.children.unwrap();
    assert_eq!((&*children, words(&others)), (&b"b"[..], vec!["a".to_owned(), "last".to_owned()]));
    assert_eq!(verdict(&[multi("a", false)]).children, None);
}

#[test]
fn the_same_rules_are_found_again_wherever_they_stand() {
    let before = Programs::new(&[by_cmd("a", "x"), by_cmd("b", "y")], &[]);
    let after = Programs::new(&[by_cmd("c", "z"), by_cmd("b", "y")], &[]);
    assert_eq!(before.kept_by(&after), [None, Some(1)]);
    assert!(!before.says_the_same_as(&after) && before.says_the_same_as(&Programs::new(before.said(), &[])));
}

/// Ten thousand, of all kinds.
fn many() -> Vec<ProgramRule> {
    (0..10_000)
        .map(|number| match number % 5 {
            0 => ProgramRule { comm: exact(&format!("worker{number}")), user: exact("app"), ..rule("comm") },
            1 => ProgramRule { exe: glob(&format!("/opt/*/bin/daemon{number}")), ..rule("exe") },
            2 => by_cmd("cmd", &format!(r"--instance[= ]shop{number}(\s|$)")),
            3 => ProgramRule { unit: glob(&format!("app-{number}@*.service")), ..rule("unit") },
            _ => by_cmd("either", &format!("first{number}|second-{number}$")),
        })
        .collect()
}

#[test]
fn ten_thousand_rules_are_quick() {
    let rules = many();
    let began = Instant::now();
    let programs = Programs::new(&rules, &[]);
    let compiled = began.elapsed();
    let line = cmd(&["/usr/bin/java", "-Xmx2g", "-cp", &"/opt/app/lib/a.jar:".repeat(20), "com.example.Main", "--instance", "shop9997"]);
    let subject = Subject {
        comm: b"java",
        exe: Some(b"/usr/lib/jvm/java-17/bin/java"),
        cmd: Some(&line),
        user: Some(b"app"),
        cgroup: Some(b"/system.slice/app.service"),
        unit: Some(b"app.service"),
        is_kthread: false,
    };
    assert_eq!(programs.verdict(&subject).map(|verdict| verdict.rule), Some(9997));
    let nobody = cmd(&["/bin/bash", "-c", "exec sleep 100"]);
    let nobody = Subject { comm: b"bash", cmd: Some(&nobody), exe: Some(b"/bin/bash"), ..subject };
    const ROUNDS: u32 = 200;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        assert!(programs.verdict(&subject).is_some() && programs.verdict(&nobody).is_none());
    }
    let each = began.elapsed() / (2 * ROUNDS);
    println!("compiled in {compiled:?}, {each:?} a process");
    assert!(
        compiled < Duration::from_secs(20) && each < Duration::from_millis(1),
        "compiled in {compiled:?}, {each:?} a process"
    );
}

fn any_rule() -> impl Strategy<Value = ProgramRule> {
    let word = || proptest::sample::select(vec!["nginx", "ngi*", "*x", "a?c", "abc", "*", "post", "[ab]bc"]).prop_map(str::to_owned);
    let pattern = proptest::sample::select(vec!["nginx", "ngi+nx", "abc|post", "", r"\bpost", "(?i)ABC", "a.c", "^abc$", "x$", "ab{0,1}c"])
        .prop_map(str::to_owned);
    let comm = proptest::option::of(prop_oneof![word().prop_map(Matcher::Exact), pattern.clone().prop_map(Matcher::Regex)]);
    let exe = proptest::option::of(prop_oneof![word().prop_map(Matcher::Glob), pattern.clone().prop_map(Matcher::Regex)]);
    (comm, exe, proptest::option::of(pattern), any::<bool>()).prop_map(|(comm, exe, cmd, multi)| ProgramRule {
        comm,
        exe,
        cmd,
        multi,
        ..rule("x")
    })
}

proptest! {
    // The index leaves out nobody: asking every rule in order says the same.
    #[test]
    fn the_index_says_what_asking_everyone_says(
        rules in proptest::collection::vec(any_rule(), 0..12),
        comm in "(nginx|abc|post|ac)?",
        exe in proptest::option::of("(/bin/)?(nginx|abc|x)"),
        args in proptest::option::of(proptest::collection::vec("(nginx|abc|ABC|post|x)?", 0..3)),
    ) {
        let rules: Vec<ProgramRule> = rules.iter().enumerate().map(|(at, rule)| ProgramRule { name: text(&at.to_string()), ..rule.clone() }).collect();
        let programs = Programs::new(&rules, &[]);
        let args: Option<Vec<&str>> = args.as_ref().map(|args| args.iter().map(String::as_str).collect());
        let line = args.map(|args| cmd(&args));
        let subject = Subject { comm: comm.as_bytes(), exe: exe.as_deref().map(str::as_bytes), cmd: line.as_ref(), ..Subject::default() };
        let verdict = programs.verdict(&subject);
        let asked: Vec<Vec<u8>> = programs.explain(&subject).into_iter().filter_map(|asked| asked.program).collect();
        let mut found: Vec<Vec<u8>> = verdict.iter().map(|verdict| verdict.program.to_vec()).collect();
        found.extend(verdict.iter().flat_map(|verdict| verdict.also.iter().flat_map(|also| also.iter())).map(|name| name.to_vec()));
        prop_assert_eq!(found, asked);
    }
}
