//! What an operation takes, where it can be counted instead of measured: instructions on the simulated kernel, where nothing varies from run
//! to run, and system calls on Linux. `.ci/run counts` compares the counts with those in `benches/counts.md`.
//!
//! ```text
//! cargo run --release --example counts -- check     fails if one has risen by more than 5 %
//! cargo run --release --example counts -- accept    keeps the new ones
//! ```
//!
//! It is an example, so that the build of the programs makes it, with the code that they have.

mod mark;
mod measure;
mod operations;
mod table;

use std::io;
use std::process::ExitCode;

use table::Table;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => check(),
        ["accept"] => accept(),
        [measure::SIMULATED] => {
            measure::simulated();
            Ok(true)
        }
        _ => {
            eprintln!("usage: counts check|accept");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> io::Result<bool> {
    let (text, well) = Table::new(measure::measure()?)?.compare(&Table::kept()?);
    print!("{text}");
    if !well {
        println!("to accept this: cargo run --release --example counts -- accept");
    }
    Ok(well)
}

fn accept() -> io::Result<bool> {
    Table::new(measure::measure()?)?.keep()?;
    Ok(true)
}
