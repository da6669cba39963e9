//! Command lines: how a wrong line is answered, and a server that fails. The subcommands that search for bugs are the simulator's.
//!
//! Exit codes: 0, 1 if a bug was found or the server failed, 2 if it could not do what the command line says.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

/// The command line, or the exit status after what clap had to say: one line, or all of it where that was asked for.
pub(crate) fn parse<C: Parser>(name: &str) -> Result<C, ExitCode> {
    C::try_parse().map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        let text = error.to_string();
        let first = text.lines().take_while(|line| !line.trim().is_empty());
        let line = first.map(str::trim).collect::<Vec<_>>().join(" ");
        eprintln!("{name}: {} (see {name} --help)", line.trim_start_matches("error: "));
        ExitCode::from(2)
    })
}

/// The exit status of a server that has ended: an error before it listened is one of its command line.
pub(crate) fn ended(name: &str, result: io::Result<()>, listened: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(if listened { 1 } else { 2 })
        }
    }
}

/// From 1 to `most`.
pub(crate) fn count_up_to(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}
