//! The columns of stream `alerts`: what was found about processes and programs.

use super::{Column, Kind, Threshold, on_request, standard};

use Kind::{Count, Text, Ticks, Time, Word};
use Threshold::Any;

/// All of them; the standard ones in the order of the journal.
pub(super) const COLUMNS: &[Column] = &[
    standard("time", &[], Time(9), 35, Any, "When it was found."),
    standard(
        "kind",
        &[],
        Word,
        6,
        Any,
        "limit (one is near), absent (an expected program), budget (of CPU), burst (finer samples), stuck (a process does not answer), oom (killed for its memory).",
    ),
    standard("level", &[], Word, 5, Any, "info, warn, crit; ok says that what the row before said of the same is over."),
    standard("program", &[], Word, 12, Any, "The program; of an alert about one process the one it counts for."),
    standard("user", &["euser"], Word, 8, Any, "Effective user; the number where it has no name."),
    on_request("uid", &[], Count, 6, Any, "Its number."),
    standard("pid", &["tgid"], Count, 6, Any, "The process, where it is about one, or the one that matters most."),
    standard("start", &[], Ticks, 8, Any, "Its start in clock ticks since boot: with the pid its identity."),
    standard("value", &[], Count, 12, Any, "What was found, in the unit that text names."),
    standard("limit", &[], Count, 12, Any, "What it is measured by, in the same unit."),
    standard("text", &[], Text, 0, Any, "What happened, what follows, and what to do."),
];
