//! Config: settings that cannot be wrong.
//!
//! Three stages, each with its files. What may be **said**: the file (`file` finds lines and columns,
//! `given` turns what was said into values), the environment (`env`) and the command line
//! ([`Overrides`]). How it is **merged**: command line, then environment, then file, then default
//! (`layers`). What comes **out**: plain validated [`Settings`] ([`types`], [`rules`]), whose every key
//! stands once, in `keys` and its neighbour `lists`. [`place`] chooses the log directory, `show`
//! says where each value came from, and [`watch`] tells when the file's content may have changed.
//!
//! A new key is a field with its default in [`types`], one line in `keys`, and one in `etc/psmond.toml`;
//! a test refuses any two of them without the third.

mod env;
mod error;
mod file;
mod given;
mod keys;
mod layers;
mod lists;
pub mod literals;
mod load;
pub mod place;
pub mod programs_file;
pub mod rules;
mod show;
pub mod types;
pub mod units;
pub mod watch;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, Problem};
pub use layers::Origin;
pub use load::{DEFAULT_FILE, Loaded, Overrides, PsOverrides, Sources, load, load_on};
pub use programs_file::RulesFile;
pub use rules::{Budget, BudgetOf, Export, ExportKind, Fact, Matcher, NamePart, NameTemplate, Place, ProgramRule, Target, Url};
pub use types::{Burst, Credits, Events, Exits, Format, Host, MinFree, Ps, Pss, Sampled, Settings, Usage, UsageBy};
pub use watch::Watcher;

/// The default config: every key at its default, commented for an operator.
pub const DEFAULT: &str = include_str!("../../etc/psmond.toml");
