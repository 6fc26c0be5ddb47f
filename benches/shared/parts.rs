//! One part of a benchmark after another.

use std::fmt::Debug;

use anyhow::Result;
use clap::ValueEnum;

use crate::ending::stopped;
use crate::table::{NONE, Table};

/// Measures the parts that were asked for, or all. The others are worth having where one could not be measured; whether each could.
pub(crate) fn each<P: ValueEnum + Debug + PartialEq>(
    bench: &str,
    asked: &[P],
    table: &mut Table,
    measure: impl Fn(&P, &mut Table) -> Result<()>,
) -> Result<bool> {
    let mut whole = true;
    for part in P::value_variants().iter().filter(|part| asked.is_empty() || asked.contains(part)) {
        let measured = measure(part, table);
        stopped()?;
        if let Err(error) = measured {
            eprintln!("{bench}: part {part:?}: {error:#}");
            table.add(format!("{part:?}: not measured").to_lowercase(), None).target(NONE).note("see above");
            whole = false;
        }
    }
    Ok(whole)
}
