//! The words of the plan: what happens, and what is to be done about it.

use std::time::Duration;

use jiff::civil::Date;

use super::Keeping;
use crate::journal::segment::{Found, Name};
use crate::record::moment::Moment;
use crate::record::stream::Stream;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A live segment was found at a start and is good up to its end.
    Found {
        /// Whose.
        stream: Stream,
        /// Its number.
        seg: u64,
        /// What its header says, but for its number.
        key: Vec<u8>,
        /// The date of its last tick; `None` where it has none.
        date: Option<Date>,
        /// The number of that tick.
        seq: Option<u64>,
        /// Its size.
        bytes: u64,
    },
    /// The highest numbers known of a stream from elsewhere: closed segments and the state file.
    Known {
        /// Whose.
        stream: Stream,
        /// The number of its last segment.
        seg: u64,
        /// The number of its last sample.
        seq: u64,
        /// Bytes of closed segments of today.
        today: u64,
    },
    /// Those who live, and what was counted of them, are as the rows before this say.
    Census,
    /// A sample is to be written.
    Sample {
        /// Whose.
        stream: Stream,
        /// When its tick was due.
        due: Moment,
        /// It holds every row.
        full: bool,
        /// What the header of its segment must say, but for its number.
        key: Vec<u8>,
        /// Samples before it that never came here.
        lost: u64,
    },
    /// A flush of a stream without samples is to be written.
    Flush {
        /// Whose.
        stream: Stream,
        /// When it was due.
        due: Moment,
        /// What the header of its segment must say, but for its number.
        key: Vec<u8>,
        /// Its rows.
        rows: u64,
        /// Rows before it that never came here, as its own notes tell.
        lost: u64,
        /// It ends with a tick.
        tick: bool,
    },
    /// A live segment is left, by a stop or for another directory, or is no longer where it was.
    End {
        /// Whose.
        stream: Stream,
    },
    /// What [`Action::Append`], [`Action::Flush`] or [`Action::CloseTick`] asked for was written.
    Written {
        /// Whose.
        stream: Stream,
        /// How many bytes.
        bytes: u64,
        /// When.
        now: Duration,
    },
    /// It could not be written, and nothing of it stands in the file.
    Failed {
        /// Whose.
        stream: Stream,
        /// When it was due.
        due: Moment,
        /// Its segment was only just opened, and nothing of it stands on the disk: its number is still to be had.
        fresh: bool,
    },
    /// The file of a live segment is not the one that was opened: it was moved or removed.
    Vanished {
        /// Whose.
        stream: Stream,
    },
    /// Time went by, on a clock that only goes forward.
    Time(Duration),
    /// What the directory holds, and how much space is free.
    Listing {
        /// The local date.
        today: Date,
        /// All segments.
        found: Vec<Found>,
        /// Bytes free.
        free: u64,
    },
    /// A new config is in force.
    Keeping(Keeping),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Close the live segment under the name of this date.
    Close {
        /// Whose.
        stream: Stream,
        /// The date.
        date: Date,
    },
    /// Open a new live segment, whose header goes out with the sample.
    Open {
        /// Whose.
        stream: Stream,
        /// Its number.
        seg: u64,
    },
    /// Go on in the segment that is there.
    Resume {
        /// Whose.
        stream: Stream,
    },
    /// Write the sample.
    Append {
        /// Whose.
        stream: Stream,
        /// Its number.
        seq: u64,
        /// Its rows are shed: only the tick is written.
        shed: bool,
        /// A gap that ends here.
        gap: Option<Gap>,
    },
    /// Write the flush.
    Flush {
        /// Whose.
        stream: Stream,
        /// Its rows are shed.
        shed: bool,
        /// What its tick counts; `None` where it ends without one.
        tick: Option<Tally>,
        /// A gap that ends here.
        gap: Option<Gap>,
    },
    /// End the live segment with a tick of its own, so that no row in it belongs to no sample. Once it is written the
    /// flush that asked for it is decided anew.
    CloseTick {
        /// Whose.
        stream: Stream,
        /// When what was written last was due.
        due: Moment,
        /// What it counts.
        tally: Tally,
        /// A gap that ends here.
        gap: Option<Gap>,
    },
    /// Do not write the sample.
    Drop {
        /// Whose.
        stream: Stream,
    },
    /// Ask for a full sample.
    WantFull {
        /// Whose.
        stream: Stream,
    },
    /// Note that shedding began.
    NoteShed {
        /// Whose.
        stream: Stream,
        /// The share that was reached.
        share: u64,
    },
    /// Close psmond's own log under the name of this date.
    CloseOwnLog {
        /// The date.
        date: Date,
    },
    /// Bring what was written to the disk.
    Sync,
    /// Look at the directory and the space.
    List,
    /// Write `psmond.state`.
    SaveState,
    /// Delete a closed segment.
    Remove(Name),
    /// Compress a closed segment.
    Compress(Name),
}

/// What the tick of a stream without samples counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Its number.
    pub seq: u64,
    /// Rows in the segment since the tick before.
    pub n: u64,
    /// Rows that were shed since then.
    pub shed: u64,
}

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// How many samples; of a stream without them how many ticks.
    pub samples: u64,
    /// How many rows of a stream without samples.
    pub rows: u64,
    /// When the first was due; of samples that never came here it is not known.
    pub since: Option<Moment>,
    /// The disk took none of it.
    pub disk: bool,
}
