//! Columns of stream `budgets`: what is left of CPU budgets.

use super::{Column, Kind, Threshold, standard};

use Kind::{Credits, Time, Word};
use Threshold::{Any, Never};

/// All of them, in the order of the journal.
pub(super) const COLUMNS: &[Column] = &[
    standard("time", &[], Time(3), 29, Never, "When the tick was due."),
    standard("name", &[], Word, 12, Any, "The budget, as the config names it."),
    standard(
        "balance",
        &[],
        Credits(6),
        12,
        Any,
        "Credits that are left at the end of the interval, 0 at least and the cap at most.",
    ),
    standard("earned", &[], Credits(6), 10, Any, "Credits earned in the interval; those above the cap lapse."),
    standard(
        "spent",
        &[],
        Credits(6),
        10,
        Any,
        "Credits spent in the interval, 60 CPU-seconds each; those that were not there are among them.",
    ),
    standard(
        "exhausted_at",
        &[],
        Time(3),
        29,
        Any,
        "When the balance will be 0 at the rate of this interval; of one that is 0, since when it is; - where it does not fall.",
    ),
];
