//! The manual and the completions say everything that the programs, the schema and the default config know.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // a test

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use psmon::record::schema::columns;
use psmon::record::stream::Stream;
use tempfile::TempDir;

#[path = "../packaging/manual.rs"]
mod manual;

fn generated() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    manual::write_all(dir.path()).unwrap();
    dir
}

/// A page as people read it, but for what roff does to its lines: fonts and escapes are undone.
fn page(dir: &Path, name: &str) -> String {
    let mut text = fs::read_to_string(dir.join("man").join(name)).unwrap();
    for (escape, plain) in
        [("\\fB", ""), ("\\fI", ""), ("\\fR", ""), ("\\-", "-"), ("\\*(Aq", "'"), ("\\(aq", "'"), ("\\.", "."), ("\\\\", "\\")]
    {
        text = text.replace(escape, plain);
    }
    text
}

/// The word, and not as a part of a longer one.
fn says(text: &str, word: &str) -> bool {
    let is_part = |symbol: char| symbol.is_alphanumeric() || symbol == '_' || symbol == '-';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].chars().next_back().is_some_and(is_part) && !text[at + word.len()..].chars().next().is_some_and(is_part))
}

fn skipped(what: &str) {
    println!("SKIPPED manual: {what}");
    if let Some(file) = std::env::var_os("PSMON_SKIPPED") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "manual: {what}").unwrap();
    }
}

/// Whether a program answers at all.
fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn every_page_is_there_and_groff_has_nothing_to_say() {
    let dir = generated();
    let mut pages: Vec<String> =
        fs::read_dir(dir.path().join("man")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    let commands = ["config", "credits", "doctor", "events", "exits", "explain", "ps", "pss", "show", "usage", "verify"]
        .map(|command| format!("psmon-{command}.1"));
    let expected: Vec<String> = commands.into_iter().chain(["psmon.1", "psmond.8", "psmond.toml.5"].map(str::to_owned)).collect();
    assert_eq!(pages, expected);
    for name in &pages {
        let bytes = fs::read(dir.path().join("man").join(name)).unwrap();
        assert!(bytes.len() > 500, "{name} holds {} bytes", bytes.len());
        assert!(bytes.is_ascii(), "{name} depends on the encoding of its reader");
    }
    if !is_here("groff") {
        skipped("groff is not installed: the pages were not rendered");
        return;
    }
    for name in &pages {
        let rendered = Command::new("groff").args(["-Tutf8", "-man", "-ww"]).arg(dir.path().join("man").join(name)).output().unwrap();
        assert!(
            rendered.status.success() && rendered.stderr.is_empty(),
            "{name}: {}",
            String::from_utf8_lossy(&rendered.stderr)
        );
        assert!(rendered.stdout.len() > 500, "{name} renders to nothing");
    }
}

#[test]
fn every_switch_stands_in_its_page() {
    let dir = generated();
    let check = |command: &clap::Command, name: &str| {
        let page = page(dir.path(), name);
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let long = argument.get_long().map(|long| format!("--{long}"));
            for switch in long.into_iter().chain(argument.get_short().map(|short| format!("-{short}"))) {
                assert!(says(&page, &switch), "{name} does not say {switch}");
            }
        }
    };
    check(&manual::psmond(), "psmond.8");
    let tool = manual::psmon();
    check(&tool, "psmon.1");
    for command in tool.get_subcommands() {
        let name = format!("psmon-{}", command.get_name());
        check(command, &format!("{name}.1"));
        assert!(says(&page(dir.path(), "psmon.1"), &name), "psmon.1 does not name {name}");
    }
}

#[test]
fn every_column_stands_in_the_page_of_its_view() {
    let dir = generated();
    for stream in [
        Stream::Ps,
        Stream::Pss,
        Stream::Usage,
        Stream::UsageProcess,
        Stream::Credits,
        Stream::CreditsProcess,
        Stream::Events,
        Stream::Exits,
        Stream::Alerts,
        Stream::Budgets,
    ] {
        let name = match stream {
            // Alerts and budgets have no view yet, and what a process uses is shown by the view of what a program uses.
            Stream::Alerts | Stream::Budgets => "psmond.8".to_owned(),
            Stream::UsageProcess => "psmon-usage.1".to_owned(),
            Stream::CreditsProcess => "psmon-credits.1".to_owned(),
            stream => format!("psmon-{stream}.1"),
        };
        let page = page(dir.path(), &name);
        for column in columns(stream) {
            for word in std::iter::once(&column.name).chain(column.aliases) {
                assert!(says(&page, word), "{name} does not say {word}");
            }
            // Arrows are escapes there.
            let meaning = column.meaning.replace('\u{2192}', "\\[u2192]");
            assert!(page.contains(&meaning) && page.contains(column.kind.unit()), "{name}: {}", column.name);
        }
    }
}

#[test]
fn every_key_of_the_config_stands_in_its_page() {
    let dir = generated();
    let page = page(dir.path(), "psmond.toml.5");
    let mut keys = 0;
    for line in psmon::config::DEFAULT.lines() {
        // Those of examples stand in comments.
        let line = line.trim_start_matches(['#', ' ']);
        let Some((key, value)) = line.split_once(" = ") else { continue };
        if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            assert!(says(&page, key), "psmond.toml.5 does not say {key}");
            assert!(page.contains(value.trim()), "psmond.toml.5 does not say {key} = {value}");
            keys += 1;
        }
    }
    for section in psmon::config::DEFAULT.lines().filter(|line| line.starts_with('[')) {
        assert!(page.contains(section), "psmond.toml.5 does not say {section}");
    }
    assert!(keys > 50, "only {keys} keys were found: does this test still read the config?");
}

#[test]
fn shells_read_their_completions() {
    let dir = generated();
    let dir = dir.path().join("completions");
    for file in ["psmon.bash", "psmond.bash", "_psmon", "_psmond", "psmon.fish", "psmond.fish"] {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        assert!(text.contains("--config") || text.contains("config"), "{file}: {text}");
    }
    for (shell, files) in [("bash", ["psmon.bash", "psmond.bash"]), ("zsh", ["_psmon", "_psmond"]), ("fish", ["psmon.fish", "psmond.fish"])]
    {
        if !is_here(shell) {
            skipped(&format!("{shell} is not installed: its completions were not read"));
            continue;
        }
        for file in files {
            let read = Command::new(shell).arg("-n").arg(dir.join(file)).output().unwrap();
            assert!(read.status.success() && read.stderr.is_empty(), "{file}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}
