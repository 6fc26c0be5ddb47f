//! The recorder. See `psmond --help`, psmond(8).

use std::process::ExitCode;

fn main() -> ExitCode {
    psmon::daemon::main()
}
