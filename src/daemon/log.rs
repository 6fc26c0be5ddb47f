//! The daemon's own lines: `TIME LEVEL room: sentence. key=value`.
//!
//! They go to `psmond.log` without ever waiting for its disk, and in a terminal or under systemd to standard
//! error as well.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::MakeVisitor as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt as layer};

use crate::journal::own_log::OwnLog;
use crate::source::clock::Wall;

/// Lines that may wait for the disk; more are dropped, as nothing of the recorder may wait for them.
const LINES: usize = 4096;

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "TRACE",
        };
        let mut text = String::new();
        {
            let mut visitor = DefaultFields::new().make_visitor(Writer::new(&mut text));
            event.record(&mut visitor);
        }
        // Names of processes and files may stand in it: no line is broken and no terminal obeys them.
        let mut safe = Vec::with_capacity(text.len());
        crate::record::escape::write(text.as_bytes(), crate::record::escape::Spaces::Keep, &mut safe);
        let now = Wall::default().now();
        writeln!(writer, "{now} {level} {}: {}", metadata.target(), String::from_utf8_lossy(&safe))
    }
}

/// Starts logging. The guard writes out what waits when it is dropped.
pub fn start(own_log: OwnLog, to_stdout: bool) -> WorkerGuard {
    let (file, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).lossy(true).thread_name("log").finish(own_log);
    let watched = std::io::stderr().is_terminal()
        || to_stdout
        || ["JOURNAL_STREAM", "NOTIFY_SOCKET"].iter().any(|name| std::env::var_os(name).is_some());
    let to_file = layer::layer().event_format(Line).with_ansi(false).with_writer(file).with_filter(LevelFilter::INFO);
    let to_stderr =
        watched.then(|| layer::layer().event_format(Line).with_ansi(false).with_writer(std::io::stderr).with_filter(LevelFilter::INFO));
    // A second start in one process, as in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(to_file).with(to_stderr).try_init();
    guard
}
