//! Disks that are full, directories that are not what they should be, and ends that come at any moment.
//! What hangs is in `tests/stuck.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test

mod common;

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use common::{Mount, NOBODY, Place, Segment, Victim, as_nobody, has, is_root, psmon, until};
use rustix::process::Signal;

/// Takes all the space there is.
fn fill(dir: &Path) {
    let mut filler = std::fs::File::create(dir.join("filler")).unwrap();
    let error = loop {
        if let Err(error) = filler.write_all(&[b'x'; 512]) {
            break error;
        }
    };
    assert_eq!(error.raw_os_error(), Some(28), "ENOSPC");
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Waits until a file has not grown for three samples.
fn no_growth(path: &Path) {
    let (mut before, mut since) = (length(path), Instant::now());
    until("no growth for three samples", || {
        let now = length(path);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(3500)
    });
}

/// The journal is whole but for the gaps that it notes itself, so many in stream ps; the tool says so too. Alerts, which are always
/// recorded, may or may not have had a tick meanwhile.
fn assert_whole_but_for_noted_gaps(place: &Place, gaps: usize) {
    let report = place.verify();
    assert!(report.samples > 0, "{report:#?}");
    assert_eq!(report.damage.iter().filter(|finding| finding.file.starts_with("ps")).count(), gaps, "{report:#?}");
    assert!(
        report.damage.iter().all(|finding| finding.what.contains("as the recorder noted: full disk samples=")),
        "{report:#?}"
    );
    let output = psmon().arg("verify").arg(place.logs()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let bytes = std::fs::read(place.file("ps.log")).unwrap();
    assert!(bytes.ends_with(b"\n"));
}

#[test]
fn a_full_disk_costs_whole_samples_and_the_gap_is_noted() {
    if !is_root("a_full_disk_costs_whole_samples_and_the_gap_is_noted") {
        return;
    }
    let place = Place::of_ps("");
    let _mount = Mount::tmpfs(place.logs(), "size=256k");
    let mut recorder = place.start();
    place.wait_for_ticks(2);
    fill(&place.logs());
    no_growth(&place.file("ps.log"));
    assert!(recorder.is_running());
    // No half line stands in the file while the disk is full.
    assert!(std::fs::read(place.file("ps.log")).unwrap().ends_with(b"\n"));
    assert_eq!(place.ps().damaged, 0);
    std::fs::remove_file(place.file("filler")).unwrap();
    until("the gap noted", || place.ps().notes("full disk").len() == 1);
    place.wait_for_next_tick();
    assert_eq!(recorder.stop(), 0);

    let segments = place.all_ps();
    assert_eq!((segments.len(), segments[0].damaged), (1, 0));
    let ticks: Vec<_> = segments[0].ticks().collect();
    let jumps: Vec<_> = ticks.windows(2).filter(|pair| pair[1].count("seq").unwrap() != pair[0].count("seq").unwrap() + 1).collect();
    assert_eq!(jumps.len(), 1);
    let lost = jumps[0][1].count("seq").unwrap() - jumps[0][0].count("seq").unwrap() - 1;
    assert!(lost >= 3, "{lost}");
    let note = &segments[0].notes("full disk")[0];
    assert!(note.starts_with(&format!("samples={lost} since=")), "{note}: {lost}");
    assert_eq!(jumps[0][1].field("full"), Some("1"), "a full sample follows the gap");
    assert_whole_but_for_noted_gaps(&place, 1);
}

#[test]
fn a_start_on_a_full_disk_waits_for_room() {
    if !is_root("a_start_on_a_full_disk_waits_for_room") {
        return;
    }
    let place = Place::of_ps("");
    let _mount = Mount::tmpfs(place.logs(), "size=128k");
    fill(&place.logs());
    let mut recorder = place.start();
    until("ps.log made, and empty", || place.file("ps.log").exists());
    no_growth(&place.file("ps.log"));
    assert!(recorder.is_running() && length(&place.file("ps.log")) == 0);
    std::fs::remove_file(place.file("filler")).unwrap();
    place.wait_for_ticks(2);
    assert_eq!(recorder.stop(), 0);
    let segment = place.ps();
    assert_eq!(segment.header.as_ref().unwrap().seg, 1, "no number was used up in vain");
    let lost = segment.ticks().next().unwrap().count("seq").unwrap() - 1;
    assert!(
        lost >= 3 && segment.notes("full disk")[0].starts_with(&format!("samples={lost} since=")),
        "{:?}",
        segment.notes("full disk")
    );
    assert_eq!((segment.notes("full disk").len(), segment.notes("start").len()), (1, 1));
    assert_whole_but_for_noted_gaps(&place, 1);
}

#[test]
fn a_torn_tail_is_marked_when_there_is_room_for_the_mark() {
    if !is_root("a_torn_tail_is_marked_when_there_is_room_for_the_mark") {
        return;
    }
    let place = Place::of_ps("");
    let _mount = Mount::tmpfs(place.logs(), "size=256k");
    let recorder = place.start();
    place.wait_for_ticks(2);
    recorder.kill();
    // The rest of the page is taken too, so that not even the mark fits.
    let mut file = std::fs::OpenOptions::new().append(true).open(place.file("ps.log")).unwrap();
    let row = b"2026-11-20T00:00:00.000+00:00 1 1 half a row";
    let pad = 4096 - (length(&place.file("ps.log")) as usize + row.len()) % 4096;
    file.write_all(&[b"#".repeat(pad - 1), b"\n".to_vec(), row.to_vec()].concat()).unwrap();
    fill(&place.logs());
    let before = length(&place.file("ps.log"));
    assert_eq!(before % 4096, 0);
    let recorder = place.start();
    until("its pid in the lock", || {
        std::fs::read_to_string(place.file("psmond.lock")).unwrap().trim() == recorder.pid().to_string()
    });
    no_growth(&place.file("ps.log"));
    assert_eq!(length(&place.file("ps.log")), before);
    std::fs::remove_file(place.file("filler")).unwrap();
    until("the mark", || place.ps().notes("torn").len() == 1);
    place.wait_for_next_tick();
    assert_eq!(recorder.stop(), 0);
    assert_eq!(place.all_ps().len(), 1, "the same segment is gone on with");
    assert_eq!(place.verify().torn.len(), 1, "{:#?}", place.verify());
    assert_whole_but_for_noted_gaps(&place, 1);
}

#[test]
fn a_missing_directory_is_made_and_the_environment_overrides_the_file() {
    let place = Place::of_ps("ps:interval = \"1h\"\n");
    let elsewhere = place.root.path().join("a/b/logs");
    let mut command = place.command();
    command.env("PSMON_LOG_DIR", &elsewhere).env("PSMON_PS_INTERVAL", "1s").env("PSMON_PS_INTERVALL", "2s");
    let recorder = place.start_command(command);
    let ps = || Segment::read(&elsewhere, &psmon::journal::segment::Name::live("ps"));
    until("samples each second, elsewhere", || ps().ticks().count() >= 2);
    assert_eq!(recorder.stop(), 0);
    assert_eq!(std::fs::metadata(&elsewhere).unwrap().mode() & 0o7777, 0o750);
    for name in ["ps.log", "psmond.log", "psmond.state", "psmond.lock"] {
        assert_eq!(std::fs::metadata(elsewhere.join(name)).unwrap().mode() & 0o7777, 0o640, "{name}");
    }
    let own_log = std::fs::read_to_string(elsewhere.join("psmond.log")).unwrap();
    assert!(own_log.contains("PSMON_PS_INTERVALL"), "an unknown variable is a warning: {own_log}");
    assert!(!place.logs().exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_told_with_the_mend() {
    let test = "a_directory_that_cannot_be_written_is_told_with_the_mend";
    if !is_root(test) || !has(test, "setpriv") {
        return;
    }
    let place = Place::of_ps("");
    std::fs::create_dir(place.logs()).unwrap();
    // Named on the command line: taken at its word, and refused.
    let mut command = as_nobody(&place);
    command.arg("-l").arg(place.logs());
    assert_eq!(place.start_command(command).wait(), 3);
    let said = place.stderr();
    assert!(said.contains("Give psmond's user the right to write there, or name another directory with -l"), "{said}");
    // From the config: the user's own state directory serves.
    let state = place.root.path().join("state");
    std::fs::create_dir(&state).unwrap();
    lchown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = as_nobody(&place);
    command.env("XDG_STATE_HOME", &state);
    let recorder = place.start_command(command);
    let ps = || Segment::read(&state.join("psmon"), &psmon::journal::segment::Name::live("ps"));
    until("samples in the state directory", || ps().ticks().count() >= 1);
    assert_eq!(recorder.stop(), 0);
    let own_log = std::fs::read_to_string(state.join("psmon/psmond.log")).unwrap();
    assert!(own_log.contains("recording into") && own_log.contains("state/psmon"), "{own_log}");
    assert_eq!(std::fs::read_dir(place.logs()).unwrap().count(), 0);

    // Read-only for everyone.
    let place = Place::new("");
    let _mount = Mount::tmpfs(place.logs(), "ro,size=64k");
    assert_eq!(place.start().wait(), 3);
    assert!(place.stderr().contains("ReadWritePaths="), "{}", place.stderr());
}

#[test]
fn links_and_fifos_laid_under_our_names_are_not_written_to() {
    if !is_root("links_and_fifos_laid_under_our_names_are_not_written_to") {
        return;
    }
    let place = Place::new("");
    std::fs::create_dir(place.logs()).unwrap();
    let target = place.root.path().join("target");
    std::fs::write(&target, "precious\n").unwrap();
    symlink(&target, place.file("ps.log")).unwrap();
    let mut recorder = place.start();
    until("the link refused", || place.own_log().contains("is a symbolic link"));
    std::fs::remove_file(place.file("ps.log")).unwrap();
    place.wait_for_ticks(2);
    // While it runs: a FIFO in the place of the file.
    Command::new("mkfifo").arg(place.file("fifo")).status().unwrap();
    std::fs::rename(place.file("fifo"), place.file("ps.log")).unwrap();
    until("the FIFO refused", || place.own_log().contains("is no regular file"));
    assert!(recorder.is_running());
    std::fs::remove_file(place.file("ps.log")).unwrap();
    place.wait_for_ticks(2);
    assert_eq!(recorder.stop(), 0);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious\n");
    assert_eq!(place.ps().damaged, 0);

    // The directory itself: somebody else's link in a public place.
    let place = Place::new("");
    let public = place.root.path().join("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::set_permissions(&public, Permissions::from_mode(0o1777)).unwrap();
    symlink("/tmp", public.join("logs")).unwrap();
    lchown(public.join("logs"), Some(NOBODY), None).unwrap();
    let mut command = place.command();
    command.arg("-l").arg(public.join("logs"));
    assert_eq!(place.start_command(command).wait(), 3);
    assert!(place.stderr().contains(&format!("a symbolic link of user {NOBODY}")), "{}", place.stderr());
}

#[test]
fn a_directory_or_a_file_that_vanishes_is_made_again() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(2);
    // The file moved away, as by a logrotate of somebody else.
    std::fs::rename(place.file("ps.log"), place.file("ps.log.1")).unwrap();
    place.wait_for_ticks(2);
    assert_eq!(place.ps().header.as_ref().unwrap().seg, 2);
    assert_eq!(place.ps().ticks().next().unwrap().field("full"), Some("1"));
    // The directory moved away, and then removed altogether.
    std::fs::rename(place.logs(), place.root.path().join("moved")).unwrap();
    place.wait_for_ticks(2);
    until("the daemon's own line", || place.own_log().contains("had vanished and was made again"));
    until("it removed", || std::fs::remove_dir_all(place.logs()).is_ok());
    let segment = place.wait_for_ticks(2);
    assert_eq!(segment.ticks().next().unwrap().field("full"), Some("1"));
    // The lock is held in the new one.
    assert_eq!(place.start().wait(), 1);
    assert_eq!(recorder.stop(), 0);
    assert_eq!(place.ps().damaged, 0);
    assert!(std::fs::read_to_string(place.file("psmond.state")).unwrap().contains("boot_id"));
}

#[test]
fn a_second_instance_is_told_the_pid_of_the_first() {
    let place = Place::new("");
    let recorder = place.start();
    place.wait_for_ticks(1);
    assert_eq!(place.start().wait(), 1);
    assert!(
        place.stderr().contains(&format!("another psmond (pid {}) records there", recorder.pid())),
        "{}",
        place.stderr()
    );
    let mut command = place.command();
    command.arg("--if-running=ok");
    assert_eq!(place.start_command(command).wait(), 0);
    place.wait_for_next_tick();
    assert_eq!(recorder.stop(), 0);
    // The lock of one that is gone holds up nobody, nor does its pid.
    let mut command = place.command();
    command.arg("--if-running=ok");
    let recorder = place.start_command(command);
    until("recording", || place.ps().notes("start").len() == 2);
    assert_eq!(recorder.stop(), 0);
    Segment::assert_no_sample_missing(&place.all_ps());
    place.assert_whole();
}

/// A number below `limit`, another each time.
fn random(limit: u32) -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_micros() % limit
}

#[test]
fn kill_9_at_any_moment_leaves_a_journal_that_is_gone_on_with() {
    let place = Place::of_ps("ps:changes = false\n");
    for _ in 0..20 {
        let recorder = place.start();
        std::thread::sleep(Duration::from_millis(u64::from(random(1500))));
        recorder.kill();
    }
    let before = place.last_seq();
    let recorder = place.start();
    until("samples after all that", || place.last_seq() >= before + 2);
    assert_eq!(recorder.stop(), 0);
    let segments = place.all_ps();
    assert_eq!(segments.len(), 1);
    Segment::assert_no_sample_missing(&segments);
    assert!(place.assert_whole().samples >= 5);
}

#[test]
fn kill_9_in_the_middle_of_a_write_leaves_a_tail_that_is_marked() {
    let test = "kill_9_in_the_middle_of_a_write_leaves_a_tail_that_is_marked";
    if !has(test, "prlimit") {
        return;
    }
    // A limit on the size of files cuts a write short where it stands, and the next one kills: SIGXFSZ.
    let place = Place::of_ps("ps:changes = false\n");
    let _crowd: Vec<Victim> = (0..20).map(|_| Victim::spawn(Command::new("sleep").arg("1006"))).collect();
    let mut command = Command::new("prlimit");
    command.arg("--fsize=20000").arg(common::psmond()).arg("-c").arg(place.config());
    let mut recorder = place.start_command(command);
    assert_eq!(recorder.wait(), -1, "killed by a signal");
    assert_eq!(length(&place.file("ps.log")), 20_000);
    let before = place.last_seq();
    let recorder = place.start();
    until("samples after the tear", || place.last_seq() >= before + 2);
    assert_eq!(recorder.stop(), 0);
    assert_eq!(place.assert_whole().torn.len(), 1);
    Segment::assert_no_sample_missing(&place.all_ps());
}

#[test]
fn signals_during_a_start_are_obeyed_or_end_it_cleanly() {
    let place = Place::new("");
    for round in 0..20 {
        let mut recorder = place.start();
        std::thread::sleep(Duration::from_millis(u64::from(random(60))));
        if round % 2 == 0 {
            // A HUP is no end, once the journal is open.
            until("the lock", || {
                std::fs::read_to_string(place.file("psmond.lock")).is_ok_and(|pid| pid.trim() == recorder.pid().to_string())
            });
            recorder.hup();
        }
        recorder.signal(Signal::TERM);
        let status = recorder.wait();
        assert!(status == 0 || (status == -1 && round % 2 == 1), "{status} in round {round}: {}", place.stderr());
    }
    let before = place.last_seq();
    let recorder = place.start();
    until("samples after all that", || place.last_seq() >= before + 2);
    assert_eq!(recorder.stop(), 0);
    Segment::assert_no_sample_missing(&place.all_ps());
    place.assert_whole();
}
