//! The tool. See `psmon --help`, psmon(1).

use std::process::ExitCode;

fn main() -> ExitCode {
    psmon::cli::main()
}
