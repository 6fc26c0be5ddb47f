//! What is added up, and which columns that has.

use clap::ValueEnum;

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// A program, all its users together.
    Program,
    /// An effective user, all programs together.
    User,
    /// A control group.
    Cgroup,
    /// A program as one user on one day, from the journal.
    Day,
}

/// Counters and shares that every live view has.
const COUNTED: [&str; 7] = ["user_s", "sys_s", "cpu_s", "util_s", "credits", "cpu_pct", "share_pct"];

/// The columns shown unless others are named, of a program as one user where nothing is said.
#[must_use]
pub fn standard(by: Option<By>, watched: bool) -> Vec<&'static str> {
    let keys: &[&str] = match by {
        None => &["program", "user", "procs", "started", "exited"],
        Some(By::Program) => &["program", "procs", "started", "exited"],
        Some(By::User) => &["user", "procs", "started", "exited"],
        Some(By::Cgroup) => &["cgroup", "procs"],
        Some(By::Day) => return ["day", "program", "user", "cpu_s", "util_s", "credits", "share_pct"].to_vec(),
    };
    let total: &[&str] = if watched { &["total_s"] } else { &[] };
    [keys, &["cpu_pct", "share_pct", "cpu_s", "credits"], total].concat()
}

/// All columns that mean something there; `time` is that of the sample.
#[must_use]
pub fn all(by: Option<By>) -> Vec<&'static str> {
    let keys: &[&str] = match by {
        None => &["time", "program", "user", "procs", "started", "exited", "total_s"],
        Some(By::Program) => &["time", "program", "procs", "started", "exited", "total_s"],
        Some(By::User) => &["time", "user", "procs", "started", "exited", "total_s"],
        Some(By::Cgroup) => &["time", "cgroup", "procs", "total_s"],
        Some(By::Day) => &["day", "program", "user", "started", "exited"],
    };
    // Of a day there is no average but its share.
    let counted = COUNTED.iter().filter(|name| by != Some(By::Day) || **name != "cpu_pct");
    keys.iter().chain(counted).copied().collect()
}

/// What the rows are, in one word.
#[must_use]
pub const fn one(by: Option<By>) -> &'static str {
    match by {
        None | Some(By::Program) => "program",
        Some(By::User) => "user",
        Some(By::Cgroup) => "control group",
        Some(By::Day) => "day",
    }
}
