//! resolve: prints what names resolve to, as this process would connect to them, and how long that took, asked and remembered.
//!
//! ```text
//! resolve [-4 | -6] [--timeout SECONDS] NAME...
//! ```
//!
//! The names are looked up at once; where a name has no address, a line that begins with `?` says why. Exit codes: 0, 1 if a name has no
//! address, 2 if the command line makes no sense.

mod report;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use machinarium::net::Family;

use report::Options;

/// Prints what names resolve to, and how long that took: asked, and remembered.
#[derive(Parser)]
#[command(name = "resolve")]
struct Cli {
    /// IPv4 addresses only.
    #[arg(short = '4', conflicts_with = "six")]
    four: bool,
    /// IPv6 addresses only.
    #[arg(short = '6')]
    six: bool,
    /// Gives up after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Names, or addresses in any form.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let family = match (cli.four, cli.six) {
        (true, _) => Family::Inet,
        (_, true) => Family::Inet6,
        _ => Family::Any,
    };
    let options = Options { family, timeout: Duration::from_secs(cli.timeout) };
    match machinarium::run(|| report::look_up_all(&cli.names, options)) {
        Ok(reports) => print(&reports),
        Err(error) => {
            eprintln!("resolve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(reports: &[report::Report]) -> ExitCode {
    let mut out = io::stdout().lock();
    for report in reports {
        // A reader that has gone away wants no more.
        if write!(out, "{report}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    let all = reports.iter().all(|report| report.answer.is_ok());
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
