//! The feed of stream `usage`, and the file whose rules name programs.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::Arguments;
use super::select::measured as measured_columns;
use crate::cli::feed::{Feed, LiveUsage};
use crate::cli::said::Said;
use crate::cli::table::count;
use crate::cli::{Failure, complain};
use crate::config::programs_file::LARGEST;
use crate::config::{self, Matcher, NamePart, NameTemplate, Overrides, ProgramRule, Settings, Sources};
use crate::observer::beat::Cadence;
use crate::observer::metering::{self, Orders};
use crate::observer::samplers::ps::Rows;
use crate::observer::samplers::usage::Selection;
use crate::record::schema::Columns;
use crate::record::stream::Stream;
use crate::record::value::Value;

/// A feed of stream `usage` or `usage_process` whose rules may change while it goes on. Each sample holds a row for everyone, with the
/// standard columns of its stream but `time`.
pub trait RuledFeed: Feed {
    /// Puts a file of two-column rules in force, in place of all others: a process that it does not name is in no row then. Where no
    /// line of it is good, all stays as it was.
    fn obey(&mut self, file: &Path, content: &[u8]) -> Heard;
}

/// What was understood of a file of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Rules of it that are in force now.
    pub good: usize,
    /// A sentence for each line that is none.
    pub problems: Vec<String>,
}

/// What the kernel says, by the rules of the config, or by those of a file alone.
#[derive(Debug)]
struct Live {
    feed: LiveUsage,
    /// The programs that the file names, where one does.
    only: Option<BTreeSet<Vec<u8>>>,
    /// Where the program stands in a row.
    program: Option<usize>,
}

impl Feed for Live {
    fn sample(&mut self) -> Result<Rows, Failure> {
        let mut sample = self.feed.sample()?;
        if let Some(only) = &self.only {
            sample.rows.retain(|row| self.program.and_then(|at| row.values.get(at)).is_some_and(|program| is_one_of(only, program)));
        }
        Ok(sample)
    }
}

impl RuledFeed for Live {
    fn obey(&mut self, file: &Path, content: &[u8]) -> Heard {
        let (rules, problems) = understand(file, content);
        let good = rules.len();
        if good > 0 {
            let (rules, only) = alone(rules);
            self.feed.follow(&rules);
            self.only = Some(only);
        }
        Heard { good, problems }
    }
}

fn is_one_of(only: &BTreeSet<Vec<u8>>, program: &Value) -> bool {
    matches!(program, Value::Word(program) if only.contains(&program[..]))
}

/// The rules of the good lines, and a sentence for each other one.
fn understand(file: &Path, content: &[u8]) -> (Vec<ProgramRule>, Vec<String>) {
    let (rules, wrong) = config::programs_file::parse(content, file);
    (rules, wrong.into_iter().map(|(line, why)| format!("{}:{line}: {why}", file.display())).collect())
}

/// Whoever none of the rules of a file names would have a program all the same: that of its executable, which may be called as one that
/// the file does name. So a last rule takes them all to where nobody looks. Answers with all rules, and the programs of the file.
fn alone(mut rules: Vec<ProgramRule>) -> (Vec<ProgramRule>, BTreeSet<Vec<u8>>) {
    let only: BTreeSet<Vec<u8>> = rules.iter().map(|rule| rule.name.to_string().into_bytes()).collect();
    let mut nowhere = "nowhere".to_owned();
    while only.contains(nowhere.as_bytes()) {
        nowhere.push('_');
    }
    if let Some(mut rest) = rules.last().cloned() {
        rest.name = NameTemplate { parts: vec![NamePart::Text(nowhere)] };
        (rest.exe, rest.cmd, rest.user, rest.cgroup, rest.unit, rest.expect) = (None, None, None, None, None, None);
        rest.comm = Some(Matcher::Glob("*".to_owned()));
        (rest.children, rest.multi) = (false, false);
        rules.push(rest);
    }
    (rules, only)
}

/// The feed that was asked for; CPU is measured over `measured`, and no two samples are nearer to each other.
///
/// # Errors
/// The config is wrong, or the kernel does not answer.
pub fn feed(arguments: &Arguments, stream: Stream, measured: Duration) -> Result<Box<dyn RuledFeed>, Failure> {
    let settings = settings(arguments)?;
    let orders = Orders {
        netns_budget: settings.usage.netns_budget,
        cadence: Cadence { interval: measured, changes: false, full_every: Duration::ZERO },
        programs: stream == Stream::Usage,
        processes: stream == Stream::UsageProcess,
        selection: Selection { programs: Columns::standard(Stream::Usage), processes: Columns::standard(Stream::UsageProcess) },
        most: settings.max_programs,
        expected: metering::expected(&settings.programs),
    };
    let feed = LiveUsage::new(&arguments.proc, stream, &orders, Said::of(&settings)?, measured)?;
    Ok(Box::new(Live {
        feed,
        only: None,
        program: measured_columns(stream).iter().position(|column| *column == "program"),
    }))
}

/// The config, whose rules name programs. One that nobody named and that is wrong is no reason to show nothing; but a collector would
/// send what has other names for as long as nobody looks.
fn settings(arguments: &Arguments) -> Result<Settings, Failure> {
    match config::load(&Sources::new(arguments.config.clone(), Overrides::default())) {
        Ok(loaded) => Ok(loaded.settings),
        Err(error) if arguments.config.is_some() || arguments.tcollector => Err(Failure::Config(error.to_string())),
        Err(error) => {
            complain(&format!("the config says nothing here, as it is wrong:\n{error}"));
            Ok(Settings::default())
        }
    }
}

/// psstat's config on a machine of this name: its class is the name without its domain and the digits at its end.
#[must_use]
pub fn of_psstat(host: &str) -> Option<PathBuf> {
    let short = host.split('.').next().unwrap_or_default();
    let class = short.trim_end_matches(|symbol: char| symbol.is_ascii_digit() || symbol == ',');
    (!class.is_empty() && !class.contains('/')).then(|| PathBuf::from(format!("/{class}/shared/conf/psstat.conf")))
}

/// Sentences about one content of the file: who writes a thousand wrong lines need not read of each.
const MOST_PROBLEMS: usize = 10;

/// A file of rules, read again whenever it is looked at: what its time stamp says is not asked, as a file that was restored is an older
/// one.
#[derive(Debug)]
pub struct RulesWatch {
    path: PathBuf,
    /// As it was when it was last understood, or not.
    content: Option<Vec<u8>>,
    /// It could not be read, and that was said.
    is_lost: bool,
}

impl RulesWatch {
    /// A file nobody has read yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, content: None, is_lost: false }
    }

    /// Puts it in force. Answers with what is wrong with some of its lines.
    ///
    /// # Errors
    /// It cannot be read, or none of its lines is a rule.
    pub fn begin(&mut self, feed: &mut dyn RuledFeed) -> Result<Vec<String>, Failure> {
        let file = self.path.display();
        let content = read(&self.path).map_err(|error| Failure::Config(format!("{file}: {error}, so no program has a name")))?;
        let heard = feed.obey(&self.path, &content);
        self.content = Some(content);
        if heard.good == 0 {
            let mut why = format!("{file}: no line of it is a rule; one is a name, white space and a regular expression");
            for problem in clipped(heard.problems) {
                why = format!("{why}\n  {problem}");
            }
            return Err(Failure::Config(why));
        }
        Ok(clipped(heard.problems))
    }

    /// Puts it in force again if its content is another. Answers with what there is to say, once.
    pub fn look_again(&mut self, feed: &mut dyn RuledFeed) -> Vec<String> {
        let file = self.path.display();
        let content = match read(&self.path) {
            Ok(content) => content,
            Err(error) => {
                let was_lost = std::mem::replace(&mut self.is_lost, true);
                return if was_lost { Vec::new() } else { vec![format!("{file}: {error}; the rules it had stay in force")] };
            }
        };
        self.is_lost = false;
        if self.content.as_ref() == Some(&content) {
            return Vec::new();
        }
        let heard = feed.obey(&self.path, &content);
        self.content = Some(content);
        let mut said = clipped(heard.problems);
        said.push(if heard.good == 0 {
            format!("{file}: it changed and no line of it is a rule; the rules it had stay in force")
        } else {
            format!("{file}: it changed, and {} in force", count(heard.good as u64, "rule of it is", "rules of it are"))
        });
        said
    }
}

/// The first few, and how many more there are.
fn clipped(mut problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    problems.truncate(MOST_PROBLEMS);
    if more > 0 {
        problems.push(format!("and {} wrong", count(more as u64, "more line of it is", "more lines of it are")));
    }
    problems
}

/// The content of a file, without waiting where it is a pipe that nobody writes to.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    #[expect(clippy::cast_possible_wrap, reason = "flags of open(2) are an int there")]
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB: no file of rules"));
    }
    Ok(content)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A feed that gives what it was told to, and understands `name regex` and nothing else.
    #[derive(Default)]
    pub(in super::super) struct Fake {
        /// The samples to come; then empty ones.
        pub samples: std::collections::VecDeque<Result<Rows, Failure>>,
        /// Names of the rules in force.
        pub rules: Vec<String>,
        /// How often rules were put in force or refused.
        pub asked: usize,
    }

    impl Feed for Fake {
        fn sample(&mut self) -> Result<Rows, Failure> {
            self.samples.pop_front().unwrap_or_else(|| Ok(Rows::default()))
        }
    }

    impl RuledFeed for Fake {
        fn obey(&mut self, _: &Path, content: &[u8]) -> Heard {
            self.asked += 1;
            let text = String::from_utf8_lossy(content).into_owned();
            let (good, bad): (Vec<&str>, Vec<&str>) =
                text.lines().filter(|line| !line.is_empty()).partition(|line| line.split_whitespace().count() == 2);
            if !good.is_empty() {
                self.rules = good.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
            }
            Heard { good: good.len(), problems: bad.iter().map(|line| format!("'{line}' is no rule")).collect() }
        }
    }

    fn file(content: &str) -> (tempfile::TempDir, RulesWatch) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules");
        fs::write(&path, content).unwrap();
        (dir, RulesWatch::new(path))
    }

    #[test]
    fn the_class_of_a_machine_is_its_name_without_domain_and_digits() {
        assert_eq!(of_psstat("pxy12"), Some("/pxy/shared/conf/psstat.conf".into()));
        assert_eq!(of_psstat("pxy1,2.example.org"), Some("/pxy/shared/conf/psstat.conf".into()));
        assert_eq!(of_psstat("web"), Some("/web/shared/conf/psstat.conf".into()));
        for none in ["", "123", "12.example.org", "a/b"] {
            assert_eq!(of_psstat(none), None, "{none}");
        }
    }

    #[test]
    fn whom_a_file_does_not_name_is_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("psmond.toml");
        fs::write(
            &config,
            "[[program]]\nname = 'web'\ncmd = 'nginx'\nmulti = true\nexpect = 3\n[[program]]\nname = 'nowhere'\ncmd = 'x'\n",
        )
        .unwrap();
        let said = config::load(&Sources::new(Some(config), Overrides::default())).unwrap().settings.programs;
        let (rules, only) = alone(said.clone());
        assert_eq!((&rules[..2], rules.len()), (&said[..], 3));
        let rest = &rules[2];
        assert_eq!(
            (rest.name.to_string(), &rest.comm, &rest.cmd, rest.expect),
            ("nowhere_".to_owned(), &Some(Matcher::Glob("*".to_owned())), &None, None)
        );
        for (program, is_shown) in [("web", true), ("nowhere", true), ("nowhere_", false), ("nginx", false)] {
            assert_eq!(is_one_of(&only, &Value::word(program.as_bytes())), is_shown, "{program}");
        }
        assert!(!is_one_of(&only, &Value::Absent));
    }

    #[test]
    fn a_file_is_read_again_when_its_content_is_another_whatever_its_time() {
        let (dir, mut rules) = file("one a\ntwo b\nwrong\n");
        let path = dir.path().join("rules");
        let mut feed = Fake::default();
        assert_eq!(rules.begin(&mut feed).unwrap(), ["'wrong' is no rule"]);
        assert_eq!((rules.look_again(&mut feed), feed.asked), (Vec::new(), 1), "nothing changed");
        // An older file, of the same length: a backup that was restored.
        fs::write(&path, "six a\ntwo b\nwrong\n").unwrap();
        fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(
            rules.look_again(&mut feed).last().unwrap(),
            &format!("{}: it changed, and 2 rules of it are in force", path.display())
        );
        assert_eq!(feed.rules, ["six", "two"]);
    }

    #[test]
    fn old_rules_stay_where_there_are_no_new_ones_and_it_is_said_once() {
        let (dir, mut rules) = file("one a\n");
        let path = dir.path().join("rules");
        let mut feed = Fake::default();
        rules.begin(&mut feed).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(rules.look_again(&mut feed).len(), 1);
        assert_eq!((rules.look_again(&mut feed), &feed.rules[..]), (Vec::new(), &["one".to_owned()][..]));
        fs::remove_file(&path).unwrap();
        assert!(rules.look_again(&mut feed)[0].contains("No such file"));
        assert_eq!(rules.look_again(&mut feed), [""; 0]);
        fs::create_dir(&path).unwrap();
        assert_eq!(rules.look_again(&mut feed), [""; 0], "said already that it cannot be read");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "new a\n").unwrap();
        assert_eq!((rules.look_again(&mut feed).len(), &feed.rules[..]), (1, &["new".to_owned()][..]));
    }

    #[test]
    fn a_start_needs_rules() {
        let (dir, mut rules) = file("nothing\n");
        assert!(matches!(rules.begin(&mut Fake::default()), Err(Failure::Config(why)) if why.contains("no line of it is a rule")));
        let mut missing = RulesWatch::new(dir.path().join("missing"));
        assert!(matches!(missing.begin(&mut Fake::default()), Err(Failure::Config(why)) if why.contains("missing")));
        let many = (0..30).map(|at| format!("line{at}\n")).collect::<String>() + "one a\n";
        fs::write(dir.path().join("rules"), many).unwrap();
        let said = rules.begin(&mut Fake::default()).unwrap();
        assert_eq!((said.len(), said[10].as_str()), (11, "and 20 more lines of it are wrong"));
    }

    #[test]
    fn a_pipe_without_a_writer_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
            .unwrap();
        assert!(RulesWatch::new(path).begin(&mut Fake::default()).is_err());
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
