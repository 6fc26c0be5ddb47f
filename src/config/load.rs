//! Loading: from what was said to settings, or to everything that is wrong with it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::env::Environment;
use super::error::{At, ConfigError, Problem};
use super::file::{self, Source};
use super::given::Given;
use super::layers::{Layers, Line, Origin};
use super::place::{self, Machine, System};
use super::programs_file::{self, RulesFile};
use super::rules::ProgramRule;
use super::types::Settings;
use super::units::clip;
use super::{keys, show};

/// The config where no other is named.
pub const DEFAULT_FILE: &str = "/etc/psmond.toml";

/// What the command line says of `[ps]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PsOverrides {
    /// `-i`: a duration as the config has it.
    pub interval: Option<String>,
    /// `-K`, `--kthreads`, `--no-kthreads`.
    pub kthreads: Option<bool>,
    /// `-I`, `--interactive`, `--no-interactive`.
    pub interactive: Option<bool>,
    /// `-o`: columns, each word one or several with commas.
    pub columns: Option<Vec<String>>,
    /// `--sort`: keys, each word one or several with commas.
    pub sort: Option<Vec<String>>,
    /// `--changes`, `--no-changes`.
    pub changes: Option<bool>,
}

/// What the command line says; it is stronger than all else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--log-dir`.
    pub log_dir: Option<PathBuf>,
    /// `--format`: `text` or `json`.
    pub format: Option<String>,
    /// `--mlock`, `--no-mlock`.
    pub mlock: Option<bool>,
    /// Of `[ps]`.
    pub ps: PsOverrides,
}

impl Overrides {
    /// What it says of a key, and with which switch.
    pub(super) fn of(&self, key: &str) -> Option<(&'static str, Given<'_>)> {
        let ps = &self.ps;
        match key {
            "log_dir" => self.log_dir.as_deref().map(|dir| ("--log-dir", Given::Text(dir.as_os_str()))),
            "format" => self.format.as_ref().map(|format| ("--format", Given::Text(OsStr::new(format)))),
            "mlock" => self.mlock.map(|flag| ("--mlock", Given::Flag(flag))),
            "ps.interval" => ps.interval.as_ref().map(|interval| ("-i", Given::Text(OsStr::new(interval)))),
            "ps.kthreads" => ps.kthreads.map(|flag| ("-K", Given::Flag(flag))),
            "ps.interactive" => ps.interactive.map(|flag| ("-I", Given::Flag(flag))),
            "ps.columns" => ps.columns.as_ref().map(|words| ("-o", Given::Words(words))),
            "ps.sort" => ps.sort.as_ref().map(|words| ("--sort", Given::Words(words))),
            "ps.changes" => ps.changes.map(|flag| ("--changes", Given::Flag(flag))),
            _ => None,
        }
    }
}

/// Where settings are taken from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The config file.
    pub file: PathBuf,
    /// Whether somebody named it: then it must be there.
    pub file_is_named: bool,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The command line.
    pub overrides: Overrides,
}

impl Sources {
    /// The named file or else [`DEFAULT_FILE`], the environment of this process, and the command line.
    #[must_use]
    pub fn new(file: Option<PathBuf>, overrides: Overrides) -> Self {
        Self {
            file_is_named: file.is_some(),
            file: file.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)),
            env: std::env::vars_os().collect(),
            overrides,
        }
    }
}

/// Settings, and where they came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file that was read, or would have been.
    pub file: PathBuf,
    /// Its bytes; `None` where there is no file and none was named.
    pub content: Option<Vec<u8>>,
    /// Sentences for the operator: what was ignored, a log directory that was replaced, lines of the rules file that are wrong.
    pub warnings: Vec<String>,
    /// What was made of `programs_file`, where there is one; its rules stand in the settings too, behind those of the config.
    pub rules_file: Option<RulesFile>,
    lines: Vec<Line>,
}

impl Loaded {
    /// The answer to a check: what was read and is right.
    #[must_use]
    pub fn verdict(&self) -> String {
        let file = self.file.display();
        if self.content.is_some() { format!("{file}: ok") } else { format!("{file} is not there: the defaults serve") }
    }

    /// The settings in effect as a valid config, each line with a comment that says where the value came from.
    /// Credentials within a URL are not shown.
    #[must_use]
    pub fn effective(&self) -> String {
        show::effective(&self.file, &self.lines)
    }

    /// Keeps the rules that the config before had from its rules file, where the same file cannot be read now or holds no rule.
    /// Answers with why they are kept.
    pub fn keep_rules_of(&mut self, before: &Self) -> Option<String> {
        let file = self.rules_file.as_mut()?;
        let trouble = file.trouble.as_ref()?;
        let known = before.rules_file.as_ref().filter(|known| !known.rules.is_empty())?;
        if before.settings.programs_file != self.settings.programs_file {
            return None;
        }
        let why = format!("{trouble}; its {} rules as they were stay in force", known.rules.len());
        file.rules.clone_from(&known.rules);
        self.settings.programs.extend(known.rules.iter().cloned());
        Some(why)
    }

    /// Where the value of a key (`log_dir`, `ps.interval`) came from; `None` for what is no such key.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let (header, key) = key.rsplit_once('.').map_or((String::new(), key), |(path, key)| (format!("[{path}]"), key));
        self.lines.iter().find(|line| line.header == header && line.key == key).map(|line| &line.origin)
    }
}

/// Loads the settings on this machine.
///
/// # Errors
/// Everything that is wrong with them, and a named file that cannot be read.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    load_on(sources, &System)
}

/// As [`load`], on a machine that answers what [`Machine`] asks.
///
/// # Errors
/// As [`load`].
pub fn load_on(sources: &Sources, machine: &dyn Machine) -> Result<Loaded, ConfigError> {
    let content = match file::read(&sources.file) {
        Ok(content) => Some(content),
        Err(error) if !sources.file_is_named && missing(&error) => None,
        Err(error) => return Err(ConfigError::new(vec![unreadable(&sources.file, &error)])),
    };
    let source = match &content {
        Some(bytes) => Some(Source::new(&sources.file, bytes).map_err(|problem| ConfigError::new(vec![problem]))?),
        None => None,
    };
    let document = match &source {
        Some(source) => Some(source.parse().map_err(ConfigError::new)?),
        None => None,
    };

    let environment = Environment::new(&sources.env);
    let mut layers = Layers::new(source, &environment, &sources.overrides);
    let mut settings = Settings::default();
    let mut log_dir = Origin::Default;
    layers.ask(document.as_ref(), |top| log_dir = keys::ask(top, &mut settings));
    let Layers { mut problems, mut lines, variables, .. } = layers;
    if !problems.is_empty() {
        problems.sort_by_key(|(offset, _)| *offset);
        return Err(ConfigError::new(problems.into_iter().map(|(_, problem)| problem).collect()));
    }

    let mut warnings = environment.unknown(&variables);
    let chosen = place::choose(&settings.log_dir, &log_dir, &environment, machine);
    if let Some(chosen) = chosen {
        settings.log_dir = chosen.dir;
        settings.log_dir_is_fallback = chosen.origin == Origin::Fallback;
        warnings.extend(chosen.sentence);
        if let Some(line) = lines.iter_mut().find(|line| line.header.is_empty() && line.key == "log_dir") {
            line.value = show::path(&settings.log_dir);
            line.origin = chosen.origin;
        }
    }
    let rules_file = settings.programs_file.as_deref().map(programs_file::load);
    if let Some(rules) = &rules_file {
        warnings.extend(rules.problems.iter().cloned());
        warnings.extend(rules.trouble.clone());
        settings.programs.extend(rules.rules.iter().cloned());
    }
    warnings.extend(settings.programs.iter().filter_map(finds_anything));
    Ok(Loaded { settings, file: sources.file.clone(), content, warnings, rules_file, lines })
}

/// A rule that is right, and claims more than was meant, as likely as not.
fn finds_anything(rule: &ProgramRule) -> Option<String> {
    let pattern = rule.finds_anything()?;
    let place = rule.place.as_ref().map_or_else(String::new, |place| format!("{}:{}: ", place.file.display(), place.line));
    Some(format!(
        "{place}the expression '{}' of program '{}' matches the empty text, and so whatever it is asked",
        clip(pattern),
        rule.name
    ))
}

/// `/etc` itself may be missing in a small container.
fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unreadable(file: &Path, error: &io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "this is a directory; name the file in it".to_owned(),
        io::ErrorKind::PermissionDenied => "this file cannot be read: permission denied".to_owned(),
        io::ErrorKind::FileTooLarge => "this file is larger than 1 MiB, so it is no config".to_owned(),
        _ => format!("this file cannot be read: {error}"),
    };
    Problem { at: At::File(file.to_owned()), message }
}
