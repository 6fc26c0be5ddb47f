//! `psmon explain`: which program a process counts for, by which rule, and why the rules before it did not match.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::feed::Live;
use super::said::Said;
use super::{Answer, Failure, said};
use crate::config::ProgramRule;
use crate::observer::facts::{Facts, Reading};
use crate::observer::programs::explain::{Asked, Tried};
use crate::observer::programs::member::{Claim, subject};
use crate::observer::programs::rule::Field;
use crate::observer::samplers::ps::Selection;
use crate::observer::table::Process;
use crate::observer::world::World;
use crate::record::escape::{self, Spaces};
use crate::record::schema::Columns;
use crate::record::stream::Stream;

/// So many rules that did not match are shown one by one; of more only those that came near.
const FEW: usize = 20;

/// Which program a process counts for, and why.
#[derive(Debug, Args)]
#[command(after_help = "Rules are asked in their order, and the first whose conditions all hold gives the program. A condition on a \
fact that is not known does not hold. Of a process whose parent has died, psmond may know from its birth to which family it \
belongs, which nobody can see afterwards. Exit status 1: there is no such process.")]
pub struct Arguments {
    /// The process.
    pub pid: u32,

    /// Every rule that did not match, even of thousands; else those whose first condition held, and the number of the others.
    #[arg(long)]
    pub all: bool,

    /// One JSON object.
    #[arg(long)]
    pub json: bool,

    /// Read this config file instead of /etc/psmond.toml: its rules are explained.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Read processes from here instead of /proc.
    #[arg(long, value_name = "DIR", default_value = "/proc", hide = true)]
    pub proc: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// As [`Failure`] says.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Answer, Failure> {
    let loaded = said::load(arguments.config.as_deref())?;
    for trouble in loaded.iter().filter_map(|loaded| loaded.rules_file.as_ref()).flat_map(|file| file.problems.iter().chain(&file.trouble))
    {
        super::complain(&format!("warning: {trouble}"));
    }
    let said = Said::of(&loaded.map(|loaded| loaded.settings).unwrap_or_default())?;
    let columns = Columns::for_view(Stream::Ps, &["pid"]).map_err(|error| Failure::System(error.to_string()))?;
    let selection = Selection { kthreads: true, interactive: true, own_pid: None, columns, sort: Vec::new() };
    let mut live = Live::new(&arguments.proc, selection, said, Duration::ZERO)?;
    let world = live.world()?;
    let Some(process) = world.table.get(arguments.pid).filter(|process| process.is_known()) else {
        super::complain(&format!("there is no process {}", arguments.pid));
        return Ok(Answer::No);
    };
    let asked = world.programs.explain(&subject(&process.facts, &process.comm, &world.names, process.stat.is_kthread()));
    let view = View { world, process, asked: &asked, all: arguments.all };
    if arguments.json {
        writeln!(out, "{}", view.json())?;
    } else {
        view.print(out)?;
    }
    Ok(Answer::Yes)
}

struct View<'a> {
    world: &'a World,
    process: &'a Process,
    asked: &'a [Asked],
    all: bool,
}

impl View<'_> {
    /// How it counts, in a word.
    fn by(&self) -> &'static str {
        match self.process.facts.claim {
            _ if self.process.stat.is_kthread() => "kernel",
            Claim::Rule(_) => "rule",
            Claim::Family => "family",
            Claim::Script => "script",
            Claim::None | Claim::Default => {
                if self.process.facts.exe.known().is_some() {
                    "executable"
                } else {
                    "name"
                }
            }
        }
    }

    fn rule(&self, number: u32) -> Option<&ProgramRule> {
        self.world.programs.said().get(number as usize)
    }

    /// `rule 3 'web' (/etc/psmond.toml:12)`.
    fn called(&self, number: u32) -> String {
        let Some(rule) = self.rule(number) else { return format!("rule {}", number + 1) };
        let place = rule.place.as_ref().map_or_else(String::new, |place| format!(" ({}:{})", place.file.display(), place.line));
        safe(format!("rule {} '{}'{place}", number + 1, rule.name).as_bytes())
    }

    /// Rules that are shown although they did not match: all of a few, of many those that came near.
    fn shows(&self, asked: &Asked) -> bool {
        let misses = self.asked.iter().filter(|asked| !asked.matched()).count();
        self.all || misses <= FEW || asked.unnamed.is_some() || asked.tried.iter().any(|tried| tried.holds)
    }

    /// What a fact is, as it may be shown.
    fn fact(&self, tried: &Tried) -> Result<String, &'static str> {
        let facts = &self.process.facts;
        if tried.field == Field::Cmd && tried.fact.is_some() {
            return match &facts.cmd {
                Reading::Known(cmd) => Ok(safe(&cmd.args().collect::<Vec<_>>().join(&b' '))),
                _ => Err("known, and not to be shown"),
            };
        }
        match &tried.fact {
            Some(fact) => Ok(safe(fact)),
            None => Err(why_unknown(tried.field, facts)),
        }
    }

    fn print(&self, out: &mut impl Write) -> Result<(), Failure> {
        let facts = &self.process.facts;
        writeln!(out, "{} {}", self.process.id, safe(&self.process.comm))?;
        match facts.program.known() {
            Some(program) => writeln!(out, "counts for {}", safe(program))?,
            None if self.process.stat.is_kthread() => writeln!(out, "counts for no program: it is a thread of the kernel")?,
            None => writeln!(out, "counts for no program that is known: its executable could not be had")?,
        }
        for also in facts.also.iter().flat_map(|also| also.iter()) {
            writeln!(out, "also for   {}", safe(also))?;
        }
        match facts.claim {
            _ if self.process.stat.is_kthread() => {}
            Claim::Rule(number) => writeln!(out, "by         {}", self.called(number))?,
            Claim::Family => {
                if let Some(family) = &facts.family {
                    let head = self.world.table.get(family.head.pid).filter(|head| head.id == family.head);
                    let comm = head.map_or_else(String::new, |head| format!(" {}", safe(&head.comm)));
                    writeln!(
                        out,
                        "by         descent: no rule claims it, and {}{comm} is its nearest ancestor by {}",
                        family.head,
                        self.called(family.rule)
                    )?;
                }
            }
            Claim::Script => writeln!(out, "by         what its interpreter runs: no rule claims it or an ancestor")?,
            Claim::None | Claim::Default => writeln!(
                out,
                "by         its {}: no rule claims it or an ancestor",
                if self.by() == "executable" { "executable" } else { "own name, as its executable cannot be had" }
            )?,
        }
        for asked in self.asked.iter().filter(|asked| asked.matched()) {
            writeln!(out, "\n{} matches", self.called(asked.rule))?;
            for tried in &asked.tried {
                writeln!(out, "  {:6} {}: {}", tried.field.word(), safe(tried.said.as_bytes()), shown(&self.fact(tried)))?;
            }
        }
        let (near, far): (Vec<&Asked>, Vec<&Asked>) =
            self.asked.iter().filter(|asked| !asked.matched()).partition(|asked| self.shows(asked));
        if !near.is_empty() {
            writeln!(out, "\ndo not match")?;
        }
        for asked in near {
            writeln!(out, "  {}: {}", self.called(asked.rule), self.why_not(asked))?;
        }
        if !far.is_empty() {
            writeln!(out, "  {} more: the first condition of none of them holds. --all shows them.", far.len())?;
        }
        if self.world.programs.said().is_empty() && !self.process.stat.is_kthread() {
            writeln!(out, "\nThe config has no program rules.")?;
        }
        Ok(())
    }

    fn why_not(&self, asked: &Asked) -> String {
        if let Some(fact) = asked.unnamed {
            return if fact == "name" {
                "nothing is left of its name".to_owned()
            } else {
                format!("its name needs {fact}, which is not there")
            };
        }
        match asked.tried.iter().find(|tried| !tried.holds) {
            Some(tried) => {
                format!("{} is not {}: {}", tried.field.word(), safe(tried.said.as_bytes()), shown(&self.fact(tried)))
            }
            None => "it has no condition".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let facts = &self.process.facts;
        let words = |also: &[std::sync::Arc<[u8]>]| also.iter().map(|name| safe(name)).collect::<Vec<_>>();
        let ancestor = facts.family.as_ref().filter(|_| facts.claim == Claim::Family);
        let matched: Vec<Value> = self.asked.iter().filter(|asked| asked.matched()).map(|asked| self.rule_json(asked)).collect();
        let others: Vec<&Asked> = self.asked.iter().filter(|asked| !asked.matched()).collect();
        let shown: Vec<Value> = others.iter().filter(|asked| self.shows(asked)).map(|asked| self.rule_json(asked)).collect();
        json!({
            "pid": self.process.id.pid,
            "start": self.process.id.start,
            "comm": safe(&self.process.comm),
            "program": facts.program.known().map(|program| safe(program)),
            "also": facts.also.as_ref().map_or_else(Vec::new, |also| words(also)),
            "by": self.by(),
            "ancestor": ancestor.map(|family| json!({
                "pid": family.head.pid, "start": family.head.start, "rule": family.rule + 1, "program": safe(&family.program),
            })),
            "left_out": others.len() - shown.len(),
            "matched": matched,
            "others": shown,
        })
    }

    fn rule_json(&self, asked: &Asked) -> Value {
        let rule = self.rule(asked.rule);
        let place = rule.and_then(|rule| rule.place.as_ref());
        let conditions: Vec<Value> = asked
            .tried
            .iter()
            .map(|tried| {
                let fact = self.fact(tried);
                let why = fact.as_ref().err().copied();
                json!({ "fact": tried.field.word(), "wanted": tried.said, "value": fact.ok(), "unknown": why, "holds": tried.holds })
            })
            .collect();
        json!({
            "rule": asked.rule + 1,
            "name": rule.map(|rule| rule.name.to_string()),
            "file": place.map(|place| place.file.display().to_string()),
            "line": place.map(|place| place.line),
            "program": asked.program.as_ref().map(|program| safe(program)),
            "unnamed": asked.unnamed,
            "conditions": conditions,
        })
    }
}

/// What a terminal is not told to do.
fn safe(bytes: &[u8]) -> String {
    let mut safe = Vec::new();
    escape::write(bytes, Spaces::Keep, &mut safe);
    String::from_utf8_lossy(&safe).into_owned()
}

fn shown(fact: &Result<String, &'static str>) -> String {
    match fact {
        Ok(fact) if fact.is_empty() => "it is empty".to_owned(),
        Ok(fact) => fact.clone(),
        Err(why) => format!("it is {why}"),
    }
}

/// Why a fact is not known.
fn why_unknown(field: Field, facts: &Facts) -> &'static str {
    fn word<T>(reading: &Reading<T>) -> &'static str {
        match reading {
            Reading::Unread | Reading::Known(_) => "not known yet",
            Reading::Absent => "not there",
            Reading::Refused => "refused: psmon doctor names the mend",
            Reading::Late => "not known, as the process did not answer in time",
        }
    }
    match field {
        Field::Comm => "not known",
        Field::User => word(&facts.owner),
        Field::Exe => word(&facts.exe),
        Field::Cgroup => word(&facts.cgroup),
        Field::Unit => word(&facts.unit),
        Field::Cmd => word(&facts.cmd),
    }
}
