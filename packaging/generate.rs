//! Writes the manual and the completions into a directory: `cargo run --example generate -- DIR`.

use std::path::PathBuf;

use anyhow::Context as _;

#[path = "manual.rs"]
mod manual;

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from).context("usage: generate DIR")?;
    manual::write_all(&dir)
}
