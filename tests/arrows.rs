//! The arrows of the house go one way: a room uses what lies below it and `record`, never what lies above, nor a neighbour.

#![allow(clippy::unwrap_used, clippy::panic)] // a test

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each room may use besides itself.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("record", &[]),
    ("source", &["record"]),
    ("config", &["record"]),
    ("observer", &["record", "source", "config"]),
    ("journal", &["record", "source", "config"]),
    ("daemon", &["record", "source", "config", "observer", "journal"]),
    ("cli", &["record", "source", "config", "observer", "journal"]),
];

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn room_files() -> BTreeMap<String, Vec<PathBuf>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = BTreeMap::new();
    for entry in std::fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "bin" {
            let mut found = Vec::new();
            files(&path, &mut found);
            rooms.insert(name, found);
        }
    }
    rooms
}

/// The rooms that a text names after `crate::`, one by one or in braces.
fn used(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + 7..];
        let word =
            |text: &str| text.trim_start().chars().take_while(|symbol| symbol.is_ascii_lowercase() || *symbol == '_').collect::<String>();
        if let Some(list) = rest.strip_prefix('{') {
            let list = list.split("};").next().unwrap();
            rooms.extend(list.split(',').map(word));
        } else {
            rooms.push(word(rest));
        }
    }
    rooms
}

#[test]
fn rooms_use_only_what_lies_below() {
    let rooms = room_files();
    assert_eq!(rooms.len(), MAY_USE.len(), "a new room needs its place in the flow: {:?}", rooms.keys());
    let mut arrows = 0;
    for (room, may_use) in MAY_USE {
        for file in &rooms[room] {
            for target in used(&std::fs::read_to_string(file).unwrap()) {
                if target != room && rooms.contains_key(&target) {
                    assert!(may_use.contains(&target.as_str()), "{}: {room} must not use {target}", file.display());
                    arrows += 1;
                }
            }
        }
    }
    assert!(arrows > 50, "only {arrows} uses were found: does this test still read the code?");
}

#[test]
fn a_view_never_writes_the_journal() {
    for file in &room_files()["cli"] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(!text.contains("journal::writer") && !text.contains("journal::plan"), "{}", file.display());
    }
}

#[test]
fn unsafe_code_is_in_source_only_and_says_why() {
    let mut found = 0;
    for (room, files) in room_files() {
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
            {
                assert_eq!(room, "source", "{}:{}", file.display(), at + 1);
                let before = &lines[at.saturating_sub(4)..at];
                assert!(before.iter().any(|line| line.contains("// SAFETY:")), "{}:{}: {line}", file.display(), at + 1);
                found += 1;
            }
        }
    }
    assert!(found > 0, "the process CPU clock needs unsafe: does this test still read the code?");
}
