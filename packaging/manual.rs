//! The manual and the completions, made from what the programs themselves go by: the types of their command lines,
//! the schema of columns, and the default config with its comments. What no type knows is written by hand in
//! `packaging/man`.
//!
//! `packaging/generate.rs` writes them for the package, `tests/manual.rs` checks them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use psmon::config;
use psmon::record::schema::{Column, columns};
use psmon::record::stream::Stream;

const PSMOND_8: &str = include_str!("man/psmond.8.roff");
const PSMON_1: &str = include_str!("man/psmon.1.roff");
const PSMON_PSS_1: &str = include_str!("man/psmon-pss.1.roff");
const PSMON_USAGE_1: &str = include_str!("man/psmon-usage.1.roff");
const PSMON_CREDITS_1: &str = include_str!("man/psmon-credits.1.roff");
const PSMON_EXPLAIN_1: &str = include_str!("man/psmon-explain.1.roff");
const PSMON_SHOW_1: &str = include_str!("man/psmon-show.1.roff");
const PSMOND_TOML_5: &str = include_str!("man/psmond.toml.5.roff");
const MANUAL: &str = "psmon manual";
const SOURCE: &str = concat!("psmon ", env!("CARGO_PKG_VERSION"));

/// The recorder's command line.
pub(crate) fn psmond() -> Command {
    psmon::daemon::arguments::Arguments::command()
}

/// The tool's command line.
pub(crate) fn psmon() -> Command {
    let mut command = psmon::cli::Arguments::command().subcommand_value_name("COMMAND").subcommand_help_heading("COMMANDS");
    command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// Writes `man/` and `completions/` into a directory.
///
/// # Errors
/// A file could not be written.
pub(crate) fn write_all(dir: &Path) -> anyhow::Result<()> {
    for (name, text) in pages()?.into_iter().chain(completions()?) {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir)).and_then(|()| fs::write(&path, text)).context(path.display().to_string())?;
    }
    Ok(())
}

fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let tool = psmon();
    let mut pages = vec![
        ("man/psmond.8".to_owned(), page(&psmond(), "8", without_view, PSMOND_8)?),
        ("man/psmon.1".to_owned(), page(&tool, "1", |_| {}, PSMON_1)?),
        ("man/psmond.toml.5".to_owned(), config_page()),
    ];
    for command in tool.get_subcommands() {
        let more = |roff: &mut Roff| {
            // A view is called as its stream.
            if let Ok(stream) = command.get_name().parse::<Stream>() {
                columns_of(stream, roff);
                let besides = match stream {
                    Stream::Usage => Some((Stream::UsageProcess, "With \\-\\-by process besides")),
                    // No view shows these yet.
                    Stream::Credits => Some((Stream::CreditsProcess, "In stream credits_process of the journal besides")),
                    _ => None,
                };
                if let Some((other, heading)) = besides {
                    roff.control("SS", [heading]);
                    columns(other).iter().filter(|column| !columns(stream).contains(column)).for_each(|column| entry(column, roff));
                }
            }
        };
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let see_also = ".SH \"SEE ALSO\"\n\\fBpsmon\\fR(1), \\fBpsmond\\fR(8), \\fBpsmond.toml\\fR(5)\n";
        let by_hand = match command.get_name() {
            "pss" => PSMON_PSS_1,
            "usage" => PSMON_USAGE_1,
            "credits" => PSMON_CREDITS_1,
            "explain" => PSMON_EXPLAIN_1,
            "show" => PSMON_SHOW_1,
            _ => "",
        };
        pages.push((format!("man/{name}.1"), page(command, "1", more, &[by_hand, see_also].concat())?));
    }
    Ok(pages)
}

/// One page: what the command line's type knows, then `more`, then what was written by hand.
fn page(command: &Command, section: &str, more: impl FnOnce(&mut Roff), by_hand: &str) -> anyhow::Result<Vec<u8>> {
    let mut command = command.clone();
    // All switches in a row help nobody: what --help says first.
    let usage = command.render_usage().to_string();
    command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    let man = Man::new(command.clone()).section(section).source(SOURCE).manual(MANUAL);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    } else if let Some(notes) = command.get_after_help().filter(|_| section == "1") {
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]);
        for line in notes.to_string().lines() {
            if line.starts_with(' ') {
                example(&mut roff, &[line.trim_start()]);
            } else {
                roff.text([roman(line)]);
            }
        }
        out.extend_from_slice(roff.to_roff().as_bytes());
    }
    let mut roff = Roff::new();
    more(&mut roff);
    out.extend_from_slice(roff.to_roff().as_bytes());
    out.extend_from_slice(by_hand.as_bytes());
    Ok(ascii(&String::from_utf8(out)?))
}

/// Streams that no view shows.
fn without_view(roff: &mut Roff) {
    alerts(roff);
    budgets(roff);
}

/// Stream `budgets`.
fn budgets(roff: &mut Roff) {
    roff.control("SH", ["BUDGETS"]);
    for line in [
        "Stream budgets has one row for each [[budget]] of the config at each tick: what is left of the CPU time that a program, a user or",
        "control groups may use, as of a burstable instance in its standard mode. It is in credits, one is 60 CPU-seconds.",
        "The balance is the one before and what was earned, less what was spent; it stays at 0 where more was spent, and at the cap.",
        "psmond counts, it stops nobody.",
        "When the balance falls to a level, and when it is exhausted, there is an alert, with level warn or crit: one for the lowest",
        "where it fell through several. A level is said again when the balance was 5 points of the cap above it;",
        "ok follows when it is that much above the highest that it had fallen to.",
        "In alerts of budgets value and limit are the balance and the cap in thousandths of a credit.",
    ] {
        roff.text([roman(line)]);
    }
    roff.control("PP", []);
    roff.text([roman("The columns:")]);
    columns(Stream::Budgets).iter().for_each(|column| entry(column, roff));
}

/// Stream `alerts`.
fn alerts(roff: &mut Roff) {
    roff.control("SH", ["ALERTS"]);
    for line in [
        "Stream alerts is always recorded: what was found about processes and programs, two rows for what lasts.",
        "The first says that it began, the second, with level ok, that it is over; in between there is one more where it grew worse.",
        "An alert that is of a limit is of its program; one with a pid is otherwise of this process.",
        "Above 100 rows a second alerts are counted in the #tick and not written, and neither is their ok.",
        "After a start of psmond none stands, whatever the rows before say: what still holds is said anew.",
    ] {
        roff.text([roman(line)]);
    }
    roff.control("PP", []);
    roff.text([roman("This release finds processes that do not answer (stuck). The columns:")]);
    columns(Stream::Alerts).iter().for_each(|column| entry(column, roff));
}

/// Every column of a stream, as the schema describes it.
fn columns_of(stream: Stream, roff: &mut Roff) {
    let (standard, on_request): (Vec<&Column>, Vec<&Column>) = columns(stream).iter().partition(|column| column.standard);
    roff.control("SH", ["COLUMNS"]);
    roff.text([roman(
        "Each answers to its name and, in parentheses, to the names that ps(1) has for it, in capitals or not. \
         - stands where a value does not exist, ? where it was refused or could not be had in time.",
    )]);
    for (heading, columns) in [("In the journal unless the config says otherwise", standard), ("On request", on_request)] {
        if columns.is_empty() {
            continue;
        }
        roff.control("SS", [heading]);
        columns.into_iter().for_each(|column| entry(column, roff));
    }
}

/// One column.
fn entry(column: &Column, roff: &mut Roff) {
    let mut header = vec![bold(column.name)];
    if !column.aliases.is_empty() {
        header.push(roman(" ("));
        for (at, alias) in column.aliases.iter().enumerate() {
            header.push(roman(if at == 0 { "" } else { ", " }));
            header.push(bold(*alias));
        }
        header.push(roman(")"));
    }
    header.push(roman(", "));
    header.push(italic(column.kind.unit()));
    tagged(roff, header, [roman(column.meaning)]);
}

/// psmond.toml(5), from the default config and its comments.
fn config_page() -> Vec<u8> {
    let mut roff = Roff::new();
    roff.control("TH", ["psmond.toml", "5", "", SOURCE, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("psmond.toml - config of psmond, the flight recorder for processes")]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold("/etc/psmond.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    let mut items = parts(config::DEFAULT).into_iter().peekable();
    if let Some(Part::Text(lines)) = items.next_if(|item| matches!(item, Part::Text(_))) {
        prose(&mut roff, &lines);
    }
    roff.control("SH", ["KEYS"]);
    for item in items {
        match item {
            Part::Key { name, value, comment } => {
                let header = vec![bold(name), roman(" = "), roman(value)];
                let text = if comment.is_empty() { "As in [ps].".to_owned() } else { comment.join(" ") };
                tagged(&mut roff, header, [roman(text)]);
            }
            // A table of keys that are columns.
            Part::Section { name, comment } if name.contains('.') => {
                let text = if comment.is_empty() { "As [ps.thresholds].".to_owned() } else { comment.join(" ") };
                tagged(&mut roff, vec![bold(format!("[{name}]"))], [roman(text)]);
            }
            Part::Section { name, comment } => {
                roff.control("SS", [format!("[{name}]").as_str()]);
                prose(&mut roff, &comment);
                if !name.parse::<Stream>().is_ok_and(|stream| !columns(stream).is_empty()) {
                    not_yet(&mut roff);
                }
            }
            Part::Text(lines) => {
                // Prose, then lines of an example.
                let begin = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
                let (text, code) = lines.split_at(begin);
                let table = code.iter().find_map(|line| Some(line.trim().strip_prefix('[')?.split('.').next()?.trim_matches(['[', ']'])));
                roff.control("SS", [format!("[[{}]]", table.unwrap_or("more")).replace("[[export]]", "[export.NAME]").as_str()]);
                prose(&mut roff, text);
                if table == Some("export") {
                    not_yet(&mut roff);
                }
                example(&mut roff, code.get(1..).unwrap_or_default());
            }
        }
    }
    let mut text = roff.to_roff();
    text.push_str(PSMOND_TOML_5);
    ascii(&text)
}

fn not_yet(roff: &mut Roff) {
    roff.text([italic("Checked, and not acted on in this release.")]);
}

/// A part of the default config.
enum Part<'a> {
    /// Comments that belong to nothing below them.
    Text(Vec<&'a str>),
    /// `[name]` and the comment above it.
    Section { name: &'a str, comment: Vec<&'a str> },
    /// `name = value` and the comment above it.
    Key { name: &'a str, value: &'a str, comment: Vec<&'a str> },
}

fn parts(config: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut comment = Vec::new();
    for line in config.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.strip_prefix(' ').unwrap_or(text));
        } else if let Some((name, value)) = line.split_once(" = ") {
            parts.push(Part::Key { name, value, comment: std::mem::take(&mut comment) });
        } else if let Some(name) = line.strip_prefix('[') {
            parts.push(Part::Section { name: name.trim_end_matches(']'), comment: std::mem::take(&mut comment) });
        } else if !comment.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut comment)));
        }
    }
    if !comment.is_empty() {
        parts.push(Part::Text(comment));
    }
    parts
}

fn tagged(roff: &mut Roff, header: Vec<Inline>, text: impl Into<Vec<Inline>>) {
    roff.control("TP", []);
    roff.text(header);
    roff.text(text);
}

fn prose(roff: &mut Roff, lines: &[&str]) {
    for line in lines {
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(*line)]);
        }
    }
}

/// Lines as they stand.
fn example(roff: &mut Roff, lines: &[&str]) {
    roff.control("PP", []);
    roff.control("EX", []);
    for line in lines {
        // An empty roff line is a vertical space.
        roff.text([roman(*line)]);
    }
    roff.control("EE", []);
}

/// Everything beyond ASCII as groff_char(7) escapes: a page shows the same whatever the encoding of its reader.
fn ascii(page: &str) -> Vec<u8> {
    let mut out = String::with_capacity(page.len());
    for symbol in page.chars() {
        if symbol.is_ascii() {
            out.push(symbol);
        } else {
            let _ = write!(out, "\\[u{:04X}]", u32::from(symbol));
        }
    }
    out.into_bytes()
}

fn completions() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for (name, command) in [("psmond", psmond()), ("psmon", psmon())] {
        for (shell, file) in
            [(Shell::Bash, format!("{name}.bash")), (Shell::Zsh, format!("_{name}")), (Shell::Fish, format!("{name}.fish"))]
        {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), name, &mut out);
            anyhow::ensure!(!out.is_empty(), "{shell} has no completion of {name}");
            files.push((format!("completions/{file}"), out));
        }
    }
    Ok(files)
}
