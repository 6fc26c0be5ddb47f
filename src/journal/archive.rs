//! Compression of closed days, in the background at idle priority.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::segment::Name;
use crate::source::sched;

/// Uncompressed bytes in a frame: each can be read without those before it.
const FRAME: usize = 1 << 20;
/// zstd's level: the level is cheap, and the window spans many samples of the same table.
const LEVEL: i32 = 3;

/// The thread that compresses; it ends when this is dropped, after the file it is at.
#[derive(Debug)]
pub struct Archivist {
    work: Sender<(PathBuf, Name)>,
}

impl Archivist {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start() -> io::Result<Self> {
        let (work, inbox) = mpsc::channel();
        thread::Builder::new().name("archive".to_owned()).stack_size(256 * 1024).spawn(move || archive_all(&inbox))?;
        Ok(Self { work })
    }

    /// Has a closed segment compressed; one that is asked for twice is done once.
    pub fn compress(&self, dir: &Path, name: Name) {
        let _ = self.work.send((dir.to_owned(), name));
    }
}

fn archive_all(inbox: &Receiver<(PathBuf, Name)>) {
    sched::make_this_thread_idle();
    for (dir, name) in inbox {
        match compress(&dir, &name) {
            Ok(()) => {}
            // It was asked for twice, or pruned in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(target: "journal", "{} could not be compressed: {error}. It stays as it is and is tried again.", dir.join(name.to_string()).display());
            }
        }
    }
}

/// Compresses a segment into independent frames, brings it to the disk, and only then removes the original.
///
/// # Errors
/// A file could not be read or written; the original stays.
pub fn compress(dir: &Path, name: &Name) -> io::Result<()> {
    let from = dir.join(name.to_string());
    let to = dir.join(Name { compressed: true, ..name.clone() }.to_string());
    let temporary = to.with_extension("zst.tmp");
    let original = File::open(&from)?;
    let metadata = original.metadata()?;
    let _ = fs::remove_file(&temporary);
    let file = File::options().write(true).create_new(true).mode(metadata.mode() & 0o777).open(&temporary)?;
    let result = write_frames(BufReader::with_capacity(1 << 16, original), &file).and_then(|()| {
        let _ = std::os::unix::fs::fchown(&file, None, Some(metadata.gid()));
        file.sync_all()
    });
    if let Err(error) = result {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::rename(&temporary, &to)?;
    File::open(dir)?.sync_all()?;
    fs::remove_file(&from)
}

/// Frames end where a sample ends, or at least a line.
fn write_frames(mut input: impl io::BufRead, mut output: impl io::Write) -> io::Result<()> {
    let mut frame = Vec::with_capacity(FRAME + (1 << 16));
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    loop {
        // No line of ours is that long; what is, is damage, and is not to be held in memory whole.
        let count = input.by_ref().take(FRAME as u64).read_until(b'\n', &mut frame)?;
        let sample_ended = matches!(super::reader::mark(&frame[frame.len() - count..]), super::reader::Mark::Tick);
        if count == 0 || (frame.len() >= FRAME && sample_ended) || frame.len() >= 4 * FRAME {
            if !frame.is_empty() {
                output.write_all(&compressor.compress(&frame)?)?;
                frame.clear();
            }
            if count == 0 {
                return output.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_independent_and_hold_all() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::parse("ps-2026-11-18.log").unwrap();
        let mut text = String::new();
        for sample in 0..4000 {
            for row in 0..10 {
                text.push_str(&format!("2026-11-18T00:00:00.000+00:00 {row} {sample} some words of a row that is as long as rows are\n"));
            }
            text.push_str("#tick 2026-11-18T00:00:00.000+00:00 seq=1 crc=00000000\n");
        }
        fs::write(dir.path().join("ps-2026-11-18.log"), &text).unwrap();
        compress(dir.path(), &name).unwrap();
        assert!(!dir.path().join("ps-2026-11-18.log").exists());
        let bytes = fs::read(dir.path().join("ps-2026-11-18.log.zst")).unwrap();
        assert!(bytes.len() * 10 < text.len());
        let mut back = String::new();
        super::super::reader::open(dir.path(), &Name { compressed: true, ..name }).unwrap().read_to_string(&mut back).unwrap();
        assert!(back == text);
        // The second frame can be read without the first.
        let first = zstd::zstd_safe::find_frame_compressed_size(&bytes).unwrap();
        assert!(first < bytes.len());
        let mut second = Vec::new();
        zstd::Decoder::new(&bytes[first..]).unwrap().read_to_end(&mut second).unwrap();
        assert!(text.as_bytes().ends_with(&second) && second.starts_with(b"2026"));
    }

    #[test]
    fn a_directory_without_room_keeps_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let name = Name::parse("ps-2026-11-18.log").unwrap();
        assert!(compress(dir.path(), &name).is_err());
        fs::write(dir.path().join("ps-2026-11-18.log"), "x\n").unwrap();
        fs::create_dir(dir.path().join("ps-2026-11-18.log.zst")).unwrap();
        assert!(compress(dir.path(), &name).is_err());
        assert!(dir.path().join("ps-2026-11-18.log").exists());
    }
}
