//! What may be said, what may not, and who is stronger.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::place::Machine;
use super::*;
use crate::record::event::EventKind;
use crate::record::scrub::Args;
use crate::record::stream::Stream;

#[derive(Debug)]
struct Root;

impl Machine for Root {
    fn is_root(&self) -> bool {
        true
    }

    fn can_write(&self, _: &Path) -> bool {
        true
    }
}

/// A config in a file of its own, with an environment and a command line.
fn load_all(config: &[u8], env: &[(&str, &str)], overrides: Overrides) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("psmond.toml");
    std::fs::write(&file, config).unwrap();
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
    load_on(&Sources { file, file_is_named: true, env, overrides }, &Root)
}

fn settings(config: &str) -> Settings {
    load_all(config.as_bytes(), &[], Overrides::default()).unwrap_or_else(|error| panic!("{error}")).settings
}

fn refused(config: &str) -> ConfigError {
    load_all(config.as_bytes(), &[], Overrides::default()).map(|loaded| loaded.settings).expect_err(config)
}

//--- The default file

#[test]
fn the_default_file_is_the_defaults_of_the_code() {
    assert_eq!(settings(DEFAULT), Settings::default());
    assert_eq!(settings(""), Settings::default());
}

#[test]
fn the_default_file_holds_every_key_and_its_effective_view_no_other() {
    let keys = |loaded: &Loaded| -> Vec<String> {
        loaded.effective().lines().filter(|line| !line.is_empty()).map(|line| line.split(" =").next().unwrap().to_owned()).collect()
    };
    let loaded = load_all(DEFAULT.as_bytes(), &[], Overrides::default()).unwrap();
    let all = keys(&load_all(b"", &[], Overrides::default()).unwrap());
    assert_eq!(keys(&loaded), all, "the same keys in the same order");
    for line in loaded.effective().lines().filter(|line| line.contains(" = ")) {
        assert!(line.contains("# file ") && line.contains("psmond.toml:"), "not in the file: {line}");
    }
}

#[test]
fn the_examples_of_the_default_file_are_valid_and_name_every_key_of_lists() {
    let start = DEFAULT.find("# [[program]]").unwrap();
    let example = |line: &str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ") || rest.starts_with('[')).map(str::to_owned);
    let examples: Vec<String> = DEFAULT[start..].lines().filter_map(example).collect();
    let settings = settings(&examples.join("\n"));
    assert_eq!((settings.programs.len(), settings.budgets.len(), settings.exports.len()), (2, 1, 2));
    for section in ["[[program]]\nx = 1", "[[budget]]\nx = 1", "[export.e]\nx = 1"] {
        let error = refused(section).to_string();
        let known = error.split("(known: ").nth(1).unwrap().split(')').next().unwrap();
        for key in known.split(", ") {
            assert!(DEFAULT[start..].contains(key), "{section}: {key} stands in no example");
        }
    }
}

//--- What may be said

#[test]
fn every_form_of_a_value_is_taken() {
    let settings = settings(
        "\u{feff}log_dir = '/tmp/x'\r\nformat = \"json\"\r\nargs = \"none\"\r\nsync = 0\r\nmax_size = 1_000_000\r\n\
         min_free = \"1G\"\r\nprograms_file = '/etc/rules'\r\nscrub = ['-p(?P<secret>\\S+)', \"a,b\"]\r\n\
         [ps]\r\ninterval = 1.5\r\ncolumns = ['pcpu', 'args']\r\nsort = ['-rss', 'pid']\r\nmax_size = '1M'\r\n\
         thresholds = { pcpu = 2.5, user = 0 }\r\n[usage]\r\nby = ['process', 'program']\r\n[usage.thresholds]\r\nfds = 3\r\n\
         [pss]\r\nmax_read_ms = 5\r\n[events]\r\nkinds = ['exec']\r\ninclude = ['^ssh']\r\n",
    );
    assert_eq!(settings.log_dir, PathBuf::from("/tmp/x"));
    assert_eq!((settings.format, settings.args), (Format::Json, Args::None));
    assert_eq!(settings.sync, Duration::ZERO);
    assert_eq!((settings.max_size, settings.min_free), (1_000_000, MinFree::Bytes(1 << 30)));
    assert_eq!(settings.programs_file, Some(PathBuf::from("/etc/rules")));
    assert_eq!(settings.scrub, [r"-p(?P<secret>\S+)", "a,b"]);
    assert_eq!(settings.ps.sampled.interval, Duration::from_millis(1500));
    assert_eq!(settings.ps.columns.names(), "time pid start cpu_pct cmd");
    let sort: Vec<_> = settings.ps.sort.iter().map(|key| (key.column.name, key.descending)).collect();
    assert_eq!(sort, [("rss", true), ("pid", false)]);
    assert_eq!(settings.ps.sampled.max_size, Some(1 << 20));
    let thresholds: Vec<_> = settings.ps.sampled.thresholds.iter().map(|(name, number)| (name.as_str(), *number)).collect();
    assert_eq!(thresholds, [("cpu_pct", 2.5), ("user", 0.0)]);
    assert_eq!(settings.usage.by, [UsageBy::Process, UsageBy::Program]);
    assert_eq!(settings.usage.sampled.thresholds["fds"], 3.0);
    assert_eq!(settings.pss.max_read, Duration::from_millis(5));
    assert_eq!(
        (settings.events.kinds.as_slice(), settings.events.include.as_slice()),
        (&[EventKind::Exec][..], &["^ssh".to_owned()][..])
    );
}

#[test]
fn programs_budgets_and_exporters() {
    let settings = settings(
        r#"
        [[program]]
        name = "pg-{cluster}-{2}-{user}!"
        cmd = '/postgres: (?P<cluster>\w+) (\w+)/'
        exe = "*/postgres"
        comm = "/^post/"
        [[program]]
        name = "rest"
        user = "me"
        expect = 3
        children = true
        [[budget]]
        name = "b"
        cgroup = "/batch*"
        earn = 2
        alert = [0, 50]
        [export.a]
        kind = "otlp"
        url = "https://me:hunter2@example.org:1/x?token=hunter3"
        tags = { site = "north" }
        [export.b]
        kind = "prometheus"
        listen = "[::1]:9187"
        streams = ["ps", "exits"]
        "#,
    );
    let [pg, rest] = settings.programs.as_slice() else { panic!("two rules") };
    assert_eq!(pg.name.to_string(), "pg-{cluster}-{2}-{user}!");
    assert_eq!(
        pg.name.parts,
        [
            NamePart::Text("pg-".into()),
            NamePart::Capture("cluster".into()),
            NamePart::Text("-".into()),
            NamePart::Number(2),
            NamePart::Text("-".into()),
            NamePart::Fact(Fact::User),
            NamePart::Text("!".into())
        ]
    );
    assert_eq!(pg.regexes().collect::<Vec<_>>(), [r"postgres: (?P<cluster>\w+) (\w+)", "^post"]);
    assert_eq!((&pg.exe, &pg.comm), (&Some(Matcher::Glob("*/postgres".into())), &Some(Matcher::Regex("^post".into()))));
    assert_eq!(
        (&rest.user, rest.expect, rest.children, rest.multi),
        (&Some(Matcher::Exact("me".into())), Some(3), true, false)
    );
    let budget = &settings.budgets[0];
    assert_eq!((budget.cap, budget.start, budget.alert.as_slice()), (48.0, 48.0, &[50.0, 0.0][..]));
    assert_eq!(settings.exports["b"].streams, [Stream::Ps, Stream::Exits]);
    let debugged = format!("{settings:?}");
    assert!(!debugged.contains("hunter"), "{debugged}");
    let Target::Url(url) = &settings.exports["a"].target else { panic!("otlp has a url") };
    assert!(url.with_secrets().contains("hunter2"));
}

//--- What may not be said

/// One mistake each: the config, line, column, and what the sentence must hold.
const MISTAKES: &[(&str, usize, usize, &str)] = &[
    (
        "[ps]\nintervall = \"10s\"",
        2,
        1,
        "unknown key 'intervall' in [ps]; did you mean 'interval'? (known: enabled, interval,",
    ),
    ("lod_dir = \"/x\"", 1, 1, "unknown key 'lod_dir'; did you mean 'log_dir'?"),
    ("[usge]\n", 1, 2, "unknown section 'usge'; did you mean 'usage'?"),
    ("[ps]\nkeep_days = 3", 2, 1, "unknown key 'keep_days' in [ps]; it belongs above the first section"),
    ("[host]\nchanges = true", 2, 1, "unknown key 'changes' in [host]"),
    ("[ps]\n  interval = \"0s\"", 2, 14, "interval: 0s is out of range: from 1s to 24h"),
    ("[ps]\ninterval = 0.5", 2, 12, "interval: 500ms is out of range"),
    ("[ps]\ninterval = \"10 parsecs\"", 2, 12, "interval: '10 parsecs' is no duration; write"),
    ("[ps]\ninterval = true", 2, 12, "interval: a duration such as \"10s\" is needed, not a boolean"),
    ("[ps]\ninterval = nan", 2, 12, "interval: NaN s is no duration"),
    ("keep_days = 0", 1, 13, "keep_days: a whole number from 1 to 36500 is needed, not 0"),
    ("keep_days = -1", 1, 13, "not -1"),
    ("keep_days = \"14\"", 1, 13, "not a string"),
    ("max_size = \"2X\"", 1, 12, "max_size: '2X' is no size"),
    ("max_size = 10", 1, 12, "max_size: 10 is too small: at least 64K"),
    ("min_free = \"101%\"", 1, 12, "from 0% to 100%"),
    ("format = \"jsn\"", 1, 10, "format: 'jsn' is none of text, json; did you mean 'json'?"),
    ("args = \"scrup\"", 1, 8, "did you mean 'scrub'?"),
    ("mlock = 1", 1, 9, "mlock: true or false is needed, not an integer"),
    ("scrub = ['ok', '(']", 1, 16, "scrub: '(' is no regular expression: unclosed group"),
    ("scrub = 'x'", 1, 9, "a list of strings is needed"),
    ("interpreters = [1]", 1, 17, "not an integer in it"),
    ("[ps]\ncolumns = ['pid', 'rsss']", 2, 19, "columns: 'rsss' is not a column of ps (did you mean 'rss'?)"),
    ("[ps]\nsort = ['-cpupct']", 2, 9, "did you mean 'cpu_pct'?"),
    ("[ps.thresholds]\nrrs = 1", 2, 1, "(did you mean 'rss'?)"),
    ("[ps]\nthresholds = { user = 1 }", 2, 16, "user is no number"),
    ("[ps]\nthresholds = { rss = -1 }", 2, 16, "rss: a number of at least 0 is needed"),
    ("[ps.thresholds]\ncpu_pct = 1\npcpu = 2", 3, 1, "'cpu_pct' is said twice"),
    (
        "[ps]\nthresholds = 3",
        2,
        14,
        "'thresholds' is a section, [ps.thresholds] with its keys below, not an integer",
    ),
    ("ps = 3", 1, 6, "'ps' is a section"),
    ("[usage]\nby = []", 2, 6, "by: at least one is needed"),
    ("[usage]\nby = ['program', 'program']", 2, 18, "'program' is said twice"),
    ("[events]\nkinds = ['fork', 'exce']", 2, 18, "did you mean 'exec'?"),
    ("[events]\nexclude = ['[']", 2, 12, "is no regular expression"),
    ("[program]\nname = 'x'", 1, 1, "'program' is a list of tables, each under its own [[program]], not a table"),
    ("[[program]]\nexe = '*'", 1, 1, "[[program]] needs 'name'"),
    ("[[program]]\nname = 'x'", 1, 1, "[[program]] needs a condition"),
    ("[[program]]\nname = 'x-{usr}'\nexe = '*'", 2, 8, "name: {usr} names nothing; did you mean 'user'?"),
    ("[[program]]\nname = '{1}'\ncmd = 'none'", 2, 8, "{1} names nothing"),
    ("[[program]]\nname = '{2}'\ncmd = '(one)'", 2, 8, "and the captures 1 to 1"),
    ("[[program]]\nname = 'x{'\nexe = '*'", 2, 8, "a brace without its other half"),
    ("[[program]]\nname = 'x'\ncomm = '/(/'", 3, 8, "comm: '(' is no regular expression"),
    (
        "[[program]]\nname = 'x'\nexee = '*'\ncomm = 'x'",
        3,
        1,
        "unknown key 'exee' in [[program]]; did you mean 'exe'?",
    ),
    ("[[budget]]\nname = 'x'\nearn = 1", 1, 1, "needs one of program, user, cgroup"),
    ("[[budget]]\nname = 'x'\nuser = 'u'\nearn = 1\ncap = 2\nstart = 3", 6, 9, "more than the cap"),
    ("[[budget]]\nname='x'\nuser='u'\nearn=1\n[[budget]]\nname='x'\nuser='u'\nearn=1", 6, 6, "a budget 'x' already"),
    ("[export.a]\nkind = 'influx'", 1, 1, "influx needs 'url'"),
    ("[export.a]\nkind = 'prometheus'\nlisten = 'here'", 3, 10, "'here' is no address"),
    ("[export.a]\nkind = 'influxx'", 2, 8, "did you mean 'influx'?"),
    ("[export.a]\nkind = 'influx'\nurl = 'ftp://x'", 3, 7, "the schemes are"),
    ("[export.a]\nkind = 'influx'\nurl = 'http://x'\ncert = 'c'", 1, 1, "cert and key go together"),
    ("[export.a]\nkind = 'influx'\nurl = 'http://x'\nstreams = ['pz']", 4, 12, "did you mean 'ps'?"),
    ("[export]\nkind = 'influx'", 2, 8, "'kind' is a section, [export.kind]"),
    ("log_dir = ''", 1, 11, "a path must not be empty"),
    ("sync = \"30s\nkeep_days = 3", 1, 12, ""),
    ("keep_days = 3\nkeep_days = 4", 2, 1, "duplicate key"),
    ("keep_days 3", 1, 11, ""),
];

#[test]
fn each_mistake_is_named_with_its_place() {
    for (config, line, column, words) in MISTAKES {
        let error = refused(config);
        let first = &error.problems()[0];
        assert_eq!(first.position(), Some((*line, *column)), "{config}\n{error}");
        assert!(first.message().contains(words), "{config}\n{error}");
        let shown = first.to_string();
        assert!(shown.contains(&format!("psmond.toml:{line}:{column}: ")), "{shown}");
        assert!(shown.ends_with(config.lines().nth(line - 1).unwrap().trim()), "the offending line is shown: {shown}");
    }
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let error = refused("[pss]\nfoo = 1\n[ps]\ninterval = 0\nbar = 2\n");
    let places: Vec<_> = error.problems().iter().map(Problem::position).collect();
    assert_eq!(places, [Some((2, 1)), Some((4, 12)), Some((5, 1))]);
    assert!(error.brief().ends_with("(and 2 more)"), "{}", error.brief());
    assert_eq!(error.brief().lines().count(), 1);
}

#[test]
fn columns_count_characters_after_a_byte_order_mark_and_crlf() {
    let error = refused("\u{feff}# é\r\nscrub = ['é', '(']\r\n");
    assert_eq!(error.problems()[0].position(), Some((2, 15)));
    assert!(!error.to_string().contains('\r'));
}

#[test]
fn secrets_and_control_characters_stay_out_of_messages() {
    for config in [
        "[export.a]\nkind = 'influx'\ntoken = 'hunter2'",
        "[export.a]\nkind = 'influx'\n\"password\" = 'hunter2'",
        "[export.a]\nkind = 'influx'\ntoken = 'hunter2_file'",
        "[export.a]\nkind = 'influx'\nx = { token_file = 'a', token = 'hunter2' }",
        "[export.a]\nkind = 'influx'\nurll = 'https://me:hunter2@host/'",
        "[export.a]\nkind = 'influx'\nurl = 'gopher://me:hunter2@host/'",
        "[export.a]\nkind = 'influx'\nurl = 'https://host/?token=hunter2 x'",
    ] {
        let error = refused(config).to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = refused("\"a\\u001b[31m\" = 1\n'b\x1b' = 2").to_string();
    assert!(!error.contains('\x1b'), "{error:?}");
}

#[test]
fn files_that_cannot_be_read_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let load = |file: &Path, file_is_named| {
        load_on(&Sources { file: file.to_owned(), file_is_named, env: Vec::new(), overrides: Overrides::default() }, &Root)
    };
    let missing = dir.path().join("none.toml");
    let error = load(&missing, true).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, format!("{}: there is no such file", missing.display()));
    let loaded = load(&missing, false).unwrap();
    assert_eq!((loaded.settings, loaded.content), (Settings::default(), None), "unnamed, the defaults serve");

    for named in [true, false] {
        assert!(load(dir.path(), named).map(|_| ()).unwrap_err().to_string().contains("is a directory"));
    }
    let big = dir.path().join("big.toml");
    std::fs::write(&big, vec![b'#'; 10 << 20]).unwrap();
    assert!(load(&big, true).map(|_| ()).unwrap_err().to_string().contains("larger than 1 MiB"));
    assert!(load(Path::new("/dev/zero"), true).map(|_| ()).unwrap_err().to_string().contains("larger than 1 MiB"));
    std::fs::write(&big, b"a = 1\nb = \"\xff\"").unwrap();
    let error = load(&big, true).map(|_| ()).unwrap_err();
    assert_eq!(error.problems()[0].position(), Some((2, 6)));
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

//--- Who is stronger

#[test]
fn command_line_over_environment_over_file_over_default() {
    let file = "format = 'json'\nsync = '1s'\n[ps]\ninterval = '1m'\nkthreads = true\nthresholds = { rss = 1, vsz = 2 }\n";
    let env = [
        ("PSMON_PS_INTERVAL", "2m"),
        ("PSMON_PS_COLUMNS", "pid, rss,"),
        ("PSMON_PS_KTHREADS", "no"),
        ("PSMON_PS_THRESHOLDS_RSS", "5"),
        ("PSMON_LOG_DIR", "/from/env"),
        ("PSMON_SYNC", ""),
    ];
    let ps = PsOverrides { interval: Some("3m".into()), sort: Some(vec!["-rss,pid".into()]), ..PsOverrides::default() };
    let overrides = Overrides { log_dir: Some("/from/switch".into()), mlock: Some(true), ps, ..Overrides::default() };
    let loaded = load_all(file.as_bytes(), &env, overrides).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.ps.sampled.interval, Duration::from_secs(180));
    assert_eq!(settings.ps.columns.names(), "time start pid rss");
    assert_eq!((settings.ps.kthreads, settings.mlock, settings.format), (false, true, Format::Json));
    assert_eq!(settings.ps.sort.len(), 2);
    assert_eq!(settings.log_dir, PathBuf::from("/from/switch"));
    assert_eq!(settings.sync, Duration::from_secs(1), "an empty variable is none");
    assert_eq!(settings.ps.sampled.thresholds.values().copied().collect::<Vec<_>>(), [5.0, 2.0]);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.content.as_deref(), Some(file.as_bytes()));
    for (key, origin) in [
        ("ps.interval", Origin::CommandLine("-i")),
        ("ps.columns", Origin::Env("PSMON_PS_COLUMNS".into())),
        ("ps.thresholds.rss", Origin::Env("PSMON_PS_THRESHOLDS_RSS".into())),
        ("ps.thresholds.vsz", Origin::File(6)),
        ("format", Origin::File(1)),
        ("keep_days", Origin::Default),
    ] {
        assert_eq!(loaded.origin(key), Some(&origin), "{key}");
    }
    assert_eq!(loaded.origin("nope"), None);
}

#[test]
fn a_mistake_outside_the_file_names_the_variable_or_the_switch() {
    let env = [("PSMON_PS_INTERVAL", "soon"), ("PSMON_PS_THRESHOLDS_RRS", "1")];
    let ps = PsOverrides { columns: Some(vec!["pid".into(), "rsss".into()]), ..PsOverrides::default() };
    let overrides = Overrides { format: Some("xml".into()), ps, ..Overrides::default() };
    let error = load_all(b"[ps]\ncolumns = ['nope']", &env, overrides).map(|_| ()).unwrap_err().to_string();
    for words in [
        "PSMON_PS_INTERVAL: 'soon' is no duration",
        "PSMON_PS_THRESHOLDS_RRS: 'rrs' is not a column of ps (did you mean 'rss'?)",
        "-o: 'rsss' is not a column of ps (did you mean 'rss'?)",
        "--format: 'xml' is none of text, json",
        "psmond.toml:2:12: columns: 'nope'",
    ] {
        assert!(error.lines().any(|line| line.contains(words)), "{words}\n{error}");
    }
}

#[test]
fn unknown_variables_are_a_warning_with_the_nearest_known_one() {
    let loaded = load_all(b"", &[("PSMON_PS_INTERVALL", "1s"), ("PSMON_XYZZY", "1"), ("PS_FORMAT", "x")], Overrides::default()).unwrap();
    assert_eq!(
        loaded.warnings,
        ["PSMON_PS_INTERVALL: no such setting, ignored; did you mean PSMON_PS_INTERVAL?", "PSMON_XYZZY: no such setting, ignored"]
    );
}

#[test]
fn a_fallback_is_taken_and_told() {
    #[derive(Debug)]
    struct Nobody;
    impl Machine for Nobody {
        fn is_root(&self) -> bool {
            false
        }
        fn can_write(&self, _: &Path) -> bool {
            false
        }
    }
    let env = vec![(OsString::from("HOME"), OsString::from("/home/me"))];
    let sources = Sources { file: "/nowhere/psmond.toml".into(), file_is_named: false, env, overrides: Overrides::default() };
    let loaded = load_on(&sources, &Nobody).unwrap();
    assert_eq!(loaded.settings.log_dir, PathBuf::from("/home/me/.local/state/psmon"));
    assert!(loaded.settings.log_dir_is_fallback);
    assert_eq!(loaded.origin("log_dir"), Some(&Origin::Fallback));
    assert!(loaded.warnings[0].contains("/var/log/psmon cannot be written"), "{:?}", loaded.warnings);
    assert!(loaded.effective().contains("log_dir = \"/home/me/.local/state/psmon\""));
}

//--- The rules file

#[test]
fn rules_of_the_file_stand_behind_those_of_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("psstat.conf");
    let config = format!("programs_file = {file:?}\n[[program]]\nname = 'own'\ncomm = 'x'\n");
    let load = || load_all(config.as_bytes(), &[], Overrides::default()).unwrap();
    let names = |loaded: &Loaded| loaded.settings.programs.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>();
    // Missing at the start: said, and psmond starts without.
    let missing = load();
    assert_eq!(names(&missing), ["own"]);
    assert!(missing.warnings.iter().any(|warning| warning.contains("there is no such file")), "{:?}", missing.warnings);
    std::fs::write(&file, "web nginx\nbad (\nall x*\n").unwrap();
    let good = load();
    assert_eq!(names(&good), ["own", "web", "all"]);
    let said = |part: &str| good.warnings.iter().any(|warning| warning.contains(part));
    assert!(
        said("psstat.conf:2: '(' is no regular expression") && said("psstat.conf:3: the expression 'x*'"),
        "{:?}",
        good.warnings
    );
    // Emptied or gone while it runs: the rules as they were stay, however often it is loaded again.
    std::fs::write(&file, "# nothing\n").unwrap();
    let mut empty = load();
    let why = empty.keep_rules_of(&good).unwrap();
    assert!(why.contains("not one line") && why.ends_with("its 2 rules as they were stay in force"), "{why}");
    std::fs::remove_file(&file).unwrap();
    let mut gone = load();
    assert!(gone.keep_rules_of(&empty).unwrap().contains("there is no such file"));
    assert_eq!(names(&gone), ["own", "web", "all"]);
    assert_eq!(load().keep_rules_of(&missing), None, "there were none to keep");
}

//--- The effective view

#[test]
fn the_effective_view_is_a_config_that_means_the_same() {
    let config = "scrub = [\"a\\\"b\\\\\\\\\"]\nmin_free = '2.5%'\n[ps]\ncolumns = ['rss']\nsort = ['-rss']\nmax_size = '64K'\n\
                  [ps.thresholds]\nrss = 1e300\ncpu_pct = 0.25\n[[program]]\nname = 'a{1}'\ncmd = '/x(y)/'\nexpect = 2\n\
                  [[program]]\nname = 'b'\nunit = '*'\n[[budget]]\nname = 'x'\nuser = 'u'\nearn = 0.5\n\
                  [export.e]\nkind = 'opentsdb'\nurl = 'tcp://h:1'\n[export.e.tags]\n'a b' = 'c'\n";
    let loaded = load_all(config.as_bytes(), &[("PSMON_PS_INTERVAL", "90s")], Overrides::default()).unwrap();
    let shown = loaded.effective();
    let again = load_all(shown.as_bytes(), &[], Overrides::default()).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let mut settings = [again.settings, loaded.settings.clone()];
    // It stands in another file.
    settings.iter_mut().flat_map(|settings| &mut settings.programs).for_each(|rule| rule.place = None);
    assert_eq!(settings[0], settings[1], "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("interval = \"1m 30s\" ") && line.ends_with("# environment PSMON_PS_INTERVAL")),
        "{shown}"
    );
    for line in shown.lines().filter(|line| !line.is_empty() && !line.starts_with('[')) {
        assert!(line.contains(" # "), "{line}");
    }
}

#[test]
fn the_effective_view_hides_credentials() {
    let config = "[export.e]\nkind = 'influx'\nurl = 'https://me:hunter2@h/write?p=hunter2'\ntoken_file = '/etc/token'\n";
    let shown = load_all(config.as_bytes(), &[], Overrides::default()).unwrap().effective();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("url = \"https://***@h/write?***\""), "{shown}");
    assert!(shown.contains("/etc/token"));
}

//--- Properties

proptest! {
    // No bytes whatever make loading panic.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = load_all(&bytes, &[], Overrides::default());
    }

    // Nor a valid file with a few bytes changed; what is refused is refused in words.
    #[test]
    fn a_mutated_config_is_taken_or_refused(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut bytes = DEFAULT.replace("\n# [", "\n[").replace("\n# name", "\nname").replace("\n# exe", "\nexe").replace("\n# kind", "\nkind").into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(200));
        if let Err(error) = load_all(&bytes, &[], Overrides::default()) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!error.to_string().chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }
    }

    // Nor do variables and switches.
    #[test]
    fn any_words_are_survived(word in ".{0,30}", list in proptest::collection::vec(".{0,10}", 0..3)) {
        let ps = PsOverrides { interval: Some(word.clone()), columns: Some(list.clone()), sort: Some(list), ..PsOverrides::default() };
        let env = [("PSMON_MIN_FREE", word.as_str()), ("PSMON_SCRUB", word.as_str()), ("PSMON_PS_THRESHOLDS_RSS", word.as_str()), ("PSMON_MAX_SIZE", word.as_str())];
        let _ = load_all(b"", &env, Overrides { ps, ..Overrides::default() });
    }
}
