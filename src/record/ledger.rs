//! The ledger: lines that say what was seen, left, missed, refused and spent.

use std::fmt;

use super::moment::Moment;

/// Version of the journal's format, the number after `#psmon`.
pub const FORMAT_VERSION: u32 = 1;

/// What the header of a segment says of the machine and the recorder. If any of it changes, the segment is
/// closed and a new one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the host.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`, without hyphens.
    pub boot: String,
    /// Inode of the pid namespace; `?` where it was refused.
    pub pidns: String,
    /// Name of the time zone, or its offset where it has none.
    pub tz: String,
    /// Clock ticks a second.
    pub hz: u64,
    /// Bytes of a page.
    pub page: u64,
    /// CPUs online.
    pub cpus: u64,
    /// Version of psmond.
    pub version: String,
}

impl Facts {
    /// The facts as `key=value`, in the order of the header.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, String); 8] {
        [
            ("host", self.host.clone()),
            ("boot", self.boot.clone()),
            ("pidns", self.pidns.clone()),
            ("tz", self.tz.clone()),
            ("hz", self.hz.to_string()),
            ("page", self.page.to_string()),
            ("cpus", self.cpus.to_string()),
            ("version", self.version.clone()),
        ]
    }
}

/// Why something left a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The process ended.
    Exit,
    /// A filter or a terminal hides it now.
    Hidden,
    /// A program has no process left.
    Empty,
    /// A reload gave it another program.
    Rules,
}

impl Why {
    /// The word in `#gone`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Hidden => "hidden",
            Self::Empty => "empty",
            Self::Rules => "rules",
        }
    }
}

/// What kind of thing a note tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// The recorder began.
    Start,
    /// The recorder ended as it was told to.
    Stop,
    /// A new config is in force.
    ReloadOk,
    /// A new config was wrong; the old one is in force.
    ReloadRefused,
    /// The wall clock was set.
    Clock,
    /// The machine slept.
    Suspend,
    /// Samples are missing.
    Gap,
    /// What follows the last good tick was damaged.
    Torn,
    /// The disk was full.
    FullDisk,
    /// A write took long.
    SlowDisk,
    /// Events were lost.
    Loss,
    /// Events were switched on again.
    Relisten,
    /// Rows were shed to keep the stream's share.
    Shed,
    /// Something the recorder would use is missing.
    Degraded,
    /// An exporter's cursor moved by force.
    Cursor,
}

impl NoteKind {
    /// All kinds; those of two words before those that begin them.
    pub const ALL: [Self; 15] = [
        Self::Start,
        Self::Stop,
        Self::ReloadOk,
        Self::ReloadRefused,
        Self::Clock,
        Self::Suspend,
        Self::Gap,
        Self::Torn,
        Self::FullDisk,
        Self::SlowDisk,
        Self::Loss,
        Self::Relisten,
        Self::Shed,
        Self::Degraded,
        Self::Cursor,
    ];

    /// The word or words after the time.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::ReloadOk => "reload ok",
            Self::ReloadRefused => "reload refused",
            Self::Clock => "clock",
            Self::Suspend => "suspend",
            Self::Gap => "gap",
            Self::Torn => "torn",
            Self::FullDisk => "full disk",
            Self::SlowDisk => "slow disk",
            Self::Loss => "loss",
            Self::Relisten => "relisten",
            Self::Shed => "shed",
            Self::Degraded => "degraded",
            Self::Cursor => "cursor",
        }
    }
}

/// Something the recorder says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub time: Moment,
    /// Of what kind.
    pub kind: NoteKind,
    /// `key=value`s, already escaped.
    pub text: String,
}

impl Note {
    /// A note without text; add to it with [`Note::with`].
    #[must_use]
    pub const fn new(time: Moment, kind: NoteKind) -> Self {
        Self { time, kind, text: String::new() }
    }

    /// Adds `key=value`; the value is written as one word.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        let mut word = Vec::new();
        super::escape::write_word(value.to_string().as_bytes(), &mut word);
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(key);
        self.text.push('=');
        self.text.push_str(&String::from_utf8_lossy(&word));
        self
    }
}
