//! Each way a file can change, with the kernel's own inotify.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

/// A watcher of `path` on a runtime like the daemon's, and what is to be seen of `steps`: each must wake it.
fn wakes(path: &Path, steps: &[&dyn Fn()]) {
    run(async {
        let mut watcher = Watcher::with_quiet(path, SHORT).unwrap();
        for (number, step) in steps.iter().enumerate() {
            step();
            match tokio::time::timeout(LONG, watcher.changed()).await {
                Ok(changed) => changed.unwrap(),
                Err(_) => panic!("step {number} was missed; watching {:?}", watcher.chain),
            }
        }
        assert!(!woken(&mut watcher).await, "one change wakes once");
    });
}

/// Whether anything wakes it within a time that is long against its quiet.
async fn woken(watcher: &mut Watcher) -> bool {
    tokio::time::timeout(8 * SHORT, watcher.changed()).await.is_ok()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn written_in_place_truncated_and_appended() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    write(&file, "1");
    let other = dir.path().join("link-to-same-inode");
    fs::hard_link(&file, &other).unwrap();
    let append = || {
        use std::io::Write as _;
        fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"x").unwrap();
    };
    wakes(
        &file,
        &[&|| write(&file, "2"), &append, &|| fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap(), &|| {
            write(&other, "through the other name");
        }],
    );
}

#[test]
fn renamed_over_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, temp) = (dir.path().join("c.toml"), dir.path().join(".c.toml.swp"));
    write(&file, "1");
    let replace = || {
        write(&temp, "2");
        fs::rename(&temp, &file).unwrap();
    };
    wakes(&file, &[&replace, &replace, &|| write(&file, "in place, in the new file"), &replace]);
}

#[test]
fn removed_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    write(&file, "1");
    wakes(&file, &[&|| fs::remove_file(&file).unwrap(), &|| write(&file, "2"), &|| write(&file, "3")]);
}

#[test]
fn a_file_and_its_directories_that_do_not_exist_yet() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a/b/c.toml");
    wakes(&file, &[&|| write(&file, "1"), &|| write(&file, "2")]);
}

#[test]
fn any_symlink_of_the_chain_is_switched() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for n in ["1", "2"] {
        write(&at(&format!("real{n}/c.toml")), n);
    }
    // c.toml -> hop/middle -> ../real1/c.toml, the last by an absolute path in between.
    fs::create_dir(at("hop")).unwrap();
    symlink(at("real1"), at("current")).unwrap();
    symlink("../current/c.toml", at("hop/middle")).unwrap();
    symlink("hop/middle", at("c.toml")).unwrap();
    let switch = |link: &'static str, target: &'static str| {
        let at = &at;
        move || {
            symlink(target, at("new")).unwrap();
            fs::rename(at("new"), at(link)).unwrap();
        }
    };
    wakes(
        &at("c.toml"),
        &[
            &switch("current", "real2"),
            &|| write(&at("real2/c.toml"), "in place"),
            &switch("hop/middle", "../real1/c.toml"),
            &|| write(&at("real1/c.toml"), "in place"),
            &switch("c.toml", "real2/c.toml"),
            &|| write(&at("real2/c.toml"), "in place"),
        ],
    );
}

#[test]
fn a_config_map_swaps_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("..one/c.toml"), "1");
    symlink("..one", at("..data")).unwrap();
    symlink("..data/c.toml", at("c.toml")).unwrap();
    let swap = |old: &'static str, new: &'static str| {
        let at = &at;
        move || {
            write(&at(new).join("c.toml"), new);
            symlink(new, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at(old)).unwrap();
        }
    };
    wakes(&at("c.toml"), &[&swap("..one", "..two"), &swap("..two", "..three"), &swap("..three", "..four")]);
}

#[test]
fn a_directory_is_replaced_at_any_height() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(&at("a/b/c.toml"), "1");
    let replace = |name: &'static str, rest: &'static str| {
        let at = &at;
        move || {
            write(&at("new").join(rest), "2");
            fs::rename(at(name), at("old")).unwrap();
            fs::rename(at("new"), at(name)).unwrap();
            fs::remove_dir_all(at("old")).unwrap();
        }
    };
    wakes(
        &at("a/b/c.toml"),
        &[
            &replace("a", "b/c.toml"),
            &|| write(&at("a/b/c.toml"), "3"),
            &replace("a/b", "c.toml"),
            &|| write(&at("a/b/c.toml"), "4"),
            &|| fs::remove_dir_all(at("a")).unwrap(),
            &|| write(&at("a/b/c.toml"), "5"),
            &|| write(&at("a/b/c.toml"), "6"),
        ],
    );
}

#[test]
fn other_files_do_not_wake_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    write(&file, "1");
    run(async {
        let mut watcher = Watcher::with_quiet(&file, SHORT).unwrap();
        for name in ["d.toml", "c.toml.bak", ".c.toml.swp", "c.tom"] {
            let other = dir.path().join(name);
            write(&other, "1");
            fs::rename(&other, dir.path().join("moved")).unwrap();
            fs::remove_file(dir.path().join("moved")).unwrap();
        }
        fs::create_dir(dir.path().join("sub")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"1", "nor does reading the file itself");
        assert!(!woken(&mut watcher).await);
        write(&file, "2");
        tokio::time::timeout(LONG, watcher.changed()).await.unwrap().unwrap();
    });
}

#[test]
fn it_tells_once_it_is_quiet_and_a_dropped_future_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    write(&file, "1");
    run(async {
        let mut watcher = Watcher::with_quiet(&file, Duration::from_millis(1500)).unwrap();
        let begun = Instant::now();
        for text in ["2", "3"] {
            write(&file, text);
            // Dropped in the middle of its quiet: the event is read and must not be forgotten.
            assert!(tokio::time::timeout(Duration::from_millis(150), watcher.changed()).await.is_err());
        }
        assert!(watcher.last.is_some(), "the change waits to be told");
        tokio::time::timeout(LONG, watcher.changed()).await.unwrap().unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(1650), "150 ms, then 1.5 s of quiet");
        assert!(watcher.last.is_none(), "and then no timer runs");
    });
}

#[test]
fn an_overflow_means_anything_may_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    write(&file, "1");
    run(async {
        let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let mut watcher = Watcher::with_quiet(&file, SHORT).unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write(&one, "");
        // Two events a rename; only ones that nobody asked for, and the queue is never read meanwhile.
        for _ in 0..=limit / 4 + 2 {
            fs::rename(&one, &two).unwrap();
            fs::rename(&two, &one).unwrap();
        }
        // This one is lost.
        fs::remove_file(&file).unwrap();
        tokio::time::timeout(LONG, watcher.changed()).await.unwrap().unwrap();
        write(&file, "2");
        tokio::time::timeout(LONG, watcher.changed()).await.unwrap().unwrap();
    });
}

#[test]
fn a_loop_of_symlinks_ends() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    let unloop = || {
        fs::remove_file(at("b")).unwrap();
        write(&at("b"), "1");
    };
    wakes(&at("a"), &[&unloop, &|| write(&at("b"), "2")]);
}
