//! A new config while recording: however it comes, it is told once, and no sample is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Place, Recorder, Segment, Victim, is_root, until};
use psmon::record::value::Value;

/// The watch tells a change when nothing has happened for 1 s; twice that and two samples more would show a second one.
const SETTLED: Duration = Duration::from_millis(2500);

fn notes(place: &Place, kind: &str) -> Vec<String> {
    place.all_ps().iter().flat_map(|segment| segment.notes(kind)).collect()
}

/// Waits until there are so many notes of the kind, and then long enough that one too many would show.
fn exactly(place: &Place, kind: &str, count: usize) -> Vec<String> {
    until(&format!("{count} notes of `{kind}`: {}", place.own_log()), || notes(place, kind).len() >= count);
    let since = Instant::now();
    until("time for one too many", || since.elapsed() > SETTLED);
    place.wait_for_next_tick();
    let found = notes(place, kind);
    assert_eq!(found.len(), count, "{found:?}");
    found
}

fn write(place: &Place, config: &str) {
    std::fs::write(place.config(), place.text(config)).unwrap();
}

/// As editors do it.
fn rename_over(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn assert_nothing_lost(place: &Place, recorder: Recorder) {
    assert_eq!(recorder.stop(), 0);
    Segment::assert_no_sample_missing(&place.all_ps());
    assert!(notes(place, "gap").is_empty(), "{:?}", notes(place, "gap"));
    place.assert_whole();
}

#[test]
fn each_way_to_change_the_file_is_one_reload() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(1);
    // In place, as `echo >>` does it; in pieces, as an editor does it.
    write(&place, "sync = \"20s\"\n");
    let found = exactly(&place, "reload ok", 1);
    assert!(found[0].ends_with(" by=file"), "{found:?}");
    // Another file renamed over it.
    rename_over(&place.config(), &place.text("sync = \"21s\"\n"));
    exactly(&place, "reload ok", 2);
    // Gone, and then back: no config is no order.
    std::fs::remove_file(place.config()).unwrap();
    write(&place, "sync = \"22s\"\n");
    exactly(&place, "reload ok", 3);
    // Touched, or written with what it says already: no reload.
    Command::new("touch").arg(place.config()).status().unwrap();
    write(&place, "sync = \"22s\"\n");
    exactly(&place, "reload ok", 3);
    // Asked for: a reload, though nothing has changed; the sender is named.
    recorder.hup();
    let found = exactly(&place, "reload ok", 4);
    assert!(found[3].contains(&format!("by=pid={}", std::process::id())), "{found:?}");
    // Changed and asked for at once: not twice.
    write(&place, "sync = \"23s\"\n");
    recorder.hup();
    exactly(&place, "reload ok", 5);
    assert!(notes(&place, "reload refused").is_empty());
    assert_eq!(place.all_ps().len(), 1, "none of these touches a line of the journal");
    assert_nothing_lost(&place, recorder);
}

#[test]
fn a_switched_symlink_and_a_config_map_are_one_reload_each() {
    let place = Place::new("");
    let root = place.root.path();
    // As kubelet lays it out: psmond.toml -> ..data/psmond.toml, ..data -> ..2026_11_20.
    let mount = root.join("mount");
    let version = |name: &str, config: &str| {
        std::fs::create_dir_all(mount.join(name)).unwrap();
        std::fs::write(mount.join(name).join("psmond.toml"), place.text(config)).unwrap();
    };
    version("..one", "sync = \"20s\"\n");
    symlink("..one", mount.join("..data")).unwrap();
    symlink("..data/psmond.toml", mount.join("psmond.toml")).unwrap();
    std::fs::remove_file(place.config()).unwrap();
    symlink(mount.join("psmond.toml"), place.config()).unwrap();

    let recorder = place.start();
    place.wait_for_ticks(1);
    version("..two", "sync = \"21s\"\n");
    symlink("..two", mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    std::fs::remove_dir_all(mount.join("..one")).unwrap();
    exactly(&place, "reload ok", 1);
    // The first link of the chain is switched to another file.
    std::fs::write(root.join("other.toml"), place.text("sync = \"22s\"\n")).unwrap();
    symlink(root.join("other.toml"), root.join("link")).unwrap();
    std::fs::rename(root.join("link"), place.config()).unwrap();
    exactly(&place, "reload ok", 2);
    // The new end of the chain is watched, the old one is not.
    version("..two", "sync = \"23s\"\n");
    rename_over(&root.join("other.toml"), &place.text("sync = \"24s\"\n"));
    exactly(&place, "reload ok", 3);
    assert_nothing_lost(&place, recorder);
}

#[test]
fn a_wrong_config_is_refused_and_the_one_before_stays() {
    let place = Place::new("");
    let mut recorder = place.start();
    place.wait_for_ticks(1);
    write(&place, "formt = \"json\"\n");
    let found = exactly(&place, "reload refused", 1);
    assert!(found[0].contains("by=file") && found[0].contains("formt"), "{found:?}");
    write(&place, "format = \"json\nsync = ");
    exactly(&place, "reload refused", 2);
    std::fs::write(place.config(), b"\xff\xfe\x00").unwrap();
    exactly(&place, "reload refused", 3);
    std::fs::remove_file(place.config()).unwrap();
    recorder.hup();
    let found = exactly(&place, "reload refused", 4);
    assert!(found[3].contains("psmond.toml"), "{found:?}");
    assert!(recorder.is_running() && notes(&place, "reload ok").is_empty());
    assert!(place.own_log().contains("the config before stays in force"));
    // Mended.
    write(&place, "");
    exactly(&place, "reload ok", 1);
    assert_eq!(place.all_ps().len(), 1);
    assert_nothing_lost(&place, recorder);
}

#[test]
fn other_columns_or_another_format_begin_a_segment_with_a_full_sample() {
    let place = Place::new("");
    let recorder = place.start();
    let child = Victim::spawn(Command::new("sleep").arg("1004"));
    until("its row", || !place.ps().rows_of(child.pid()).is_empty());
    let mut before = place.wait_for_next_tick();
    for (config, first) in [
        ("ps:columns = [\"pid\", \"comm\", \"cmd\"]\n", b'#'),
        ("format = \"json\"\nps:columns = [\"pid\", \"comm\", \"cmd\"]\n", b'{'),
        ("format = \"json\"\n", b'{'),
        ("format = \"text\"\n", b'#'),
    ] {
        let segs = |segment: &Segment| segment.header.as_ref().map(|header| header.seg);
        write(&place, config);
        until("a new segment", || segs(&place.ps()).is_some_and(|seg| Some(seg) == segs(&before).map(|seg| seg + 1)));
        until("its first sample", || place.ps().ticks().count() >= 1);
        let now = place.wait_for_next_tick();
        assert_eq!(std::fs::read(place.file("ps.log")).unwrap()[0], first);
        let ticks: Vec<_> = now.ticks().map(|tick| tick.field("full").unwrap().to_owned()).collect();
        assert_eq!((ticks[0].as_str(), ticks[1].as_str()), ("1", "0"));
        assert_eq!(now.rows_of(child.pid()).len(), 1, "the full sample holds the idle too");
        assert_ne!((&now.header.as_ref().unwrap().columns, first), (&before.header.as_ref().unwrap().columns, 0));
        before = now;
    }
    exactly(&place, "reload ok", 4);
    let segments = place.all_ps();
    assert_eq!(segments.len(), 5);
    assert!(segments[..4].iter().all(|segment| segment.name.starts_with("ps-")));
    assert_nothing_lost(&place, recorder);
}

#[test]
fn another_interval_and_other_filters_take_effect_at_once() {
    let place = Place::new("ps:kthreads = true\n");
    let recorder = place.start();
    let segment = place.wait_for_ticks(2);
    let kthread = segment.rows().into_iter().find(|row| row.number("ppid") == 2).expect("a kernel thread");
    let id = format!("{}@{}", kthread.number("pid"), kthread.number("start"));
    assert!(segment.rows_of(2).first().is_some_and(|row| row.get("rss") == &Value::Absent));
    write(&place, "ps:kthreads = false\n");
    until("kernel threads hidden", || place.ps().gone().contains(&(id.clone(), "hidden".to_owned())));
    let hidden = place.wait_for_next_tick();
    assert!(hidden.ticks().last().unwrap().count("hidden").unwrap() > segment.ticks().next().unwrap().count("hidden").unwrap());
    // Shown again: rows again.
    let rows = |place: &Place| place.ps().rows_of(2).len();
    let before = rows(&place);
    write(&place, "ps:kthreads = true\n");
    until("kernel threads shown", || rows(&place) > before);
    // Another interval: the times of the ticks stand on it.
    write(&place, "ps:kthreads = true\ninterval = \"3s\"\n");
    exactly(&place, "reload ok", 3);
    let times: Vec<i64> = place.wait_for_next_tick().ticks().map(|tick| tick.time.unix_ns / 1_000_000_000).collect();
    let [.., one, two] = times[..] else { panic!("{times:?}") };
    assert!(two - one == 3 && two % 3 == 0, "{times:?}");
    write(&place, "ps:kthreads = true\ninterval = \"1s\"\n");
    until("a sample each second", || {
        let times: Vec<i64> = place.ps().ticks().map(|tick| tick.time.unix_ns).collect();
        times.windows(2).last().is_some_and(|pair| pair[1] - pair[0] == 1_000_000_000)
    });
    // Off, and on again.
    write(&place, "ps:enabled = false\n");
    until("stream ps off", || place.own_log().contains("Reloaded") && notes(&place, "reload ok").len() == 5);
    let last = place.last_seq();
    let since = Instant::now();
    until("silence", || since.elapsed() > SETTLED);
    assert_eq!(place.last_seq(), last);
    write(&place, "");
    until("recording goes on", || place.last_seq() >= last + 2);
    assert_eq!(place.all_ps().len(), 1);
    assert_nothing_lost(&place, recorder);
}

#[test]
fn a_storm_of_hups_loses_nothing() {
    let place = Place::new("");
    let mut recorder = place.start();
    place.wait_for_ticks(2);
    for _ in 0..50 {
        recorder.hup();
        std::thread::sleep(Duration::from_millis(3));
    }
    until("the reloads", || !notes(&place, "reload ok").is_empty());
    place.wait_for_next_tick();
    place.wait_for_next_tick();
    let count = notes(&place, "reload ok").len();
    assert!((1..=50).contains(&count), "{count}");
    assert!(recorder.is_running());
    assert_nothing_lost(&place, recorder);
    assert_eq!(place.all_ps().len(), 1);
}

#[test]
fn a_log_moved_away_by_another_program_is_made_anew() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(2);
    // As logrotate with `create` off and a HUP in postrotate.
    for name in ["ps.log", "psmond.log"] {
        std::fs::rename(place.file(name), place.file(&format!("{name}.1"))).unwrap();
    }
    recorder.hup();
    until("both made anew", || place.ps().ticks().count() >= 2 && place.own_log().contains("Reloaded"));
    assert_eq!(recorder.stop(), 0);
    let segment = place.ps();
    assert_eq!(segment.ticks().next().unwrap().field("full"), Some("1"));
    assert_eq!(segment.header.as_ref().unwrap().seg, 2);
    let old = std::fs::read_to_string(place.file("ps.log.1")).unwrap();
    assert!(old.ends_with('\n') && old.lines().last().is_some_and(|line| line.starts_with('#')), "no half line was left");
}

#[test]
fn another_directory_is_locked_before_the_old_one_is_let_go() {
    let place = Place::new("");
    let other = Place::new("");
    let holder = other.start();
    other.wait_for_ticks(1);
    let mut recorder = place.start();
    place.wait_for_ticks(2);

    // It is another psmond's: refused, the old one stays and stays locked.
    let directory = |path: &Path| std::fs::write(place.config(), place.text(&format!("log_dir = {path:?}\n"))).unwrap();
    directory(&other.logs());
    let found = exactly(&place, "reload refused", 1);
    assert!(found[0].contains(&format!("(pid\\x20{})", holder.pid())), "{found:?}");
    assert_eq!(place.start().wait(), 1, "still locked");
    assert_eq!(holder.stop(), 0);

    // A new one: made, and recorded into from there.
    let moved = place.root.path().join("moved/logs");
    directory(&moved);
    let new = psmon::journal::segment::Name::live("ps");
    let there = || Segment::read(&moved, &new);
    until("samples in the new directory", || there().ticks().count() >= 2);
    let old = place.ps();
    assert_eq!(old.notes("reload ok").len(), 1);
    Segment::assert_no_sample_missing(&[old, there()]);
    assert_eq!(there().ticks().next().unwrap().field("full"), Some("1"));
    assert!(std::fs::read_to_string(moved.join("psmond.log")).unwrap().contains("Reloaded"));
    place.assert_whole();
    // The old one is free, the new one is not.
    let mut command = place.command();
    command.arg("-l").arg(&moved);
    assert_eq!(place.start_command(command).wait(), 1);
    assert!(recorder.is_running());
    let mut command = place.command();
    command.arg("-l").arg(place.logs());
    let second = place.start_command(command);
    until("another psmond in the old one", || place.ps().notes("start").len() == 2);
    assert_eq!((second.stop(), recorder.stop()), (0, 0));
    assert!(psmon::journal::verify::verify(&moved, None).unwrap().is_clean());
}

#[test]
fn a_directory_that_takes_no_files_is_refused() {
    if !is_root("a_directory_that_takes_no_files_is_refused") {
        return;
    }
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(1);
    let read_only = common::Mount::tmpfs(place.root.path().join("ro"), "ro,size=64k");
    std::fs::write(place.config(), place.text(&format!("log_dir = {:?}\n", read_only.0.join("logs")))).unwrap();
    let found = exactly(&place, "reload refused", 1);
    assert!(found[0].contains("ReadWritePaths="), "{found:?}");
    assert_nothing_lost(&place, recorder);
}
