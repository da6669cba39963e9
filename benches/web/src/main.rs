//! One axum application, notes as JSON, on machinarium and on tokio, each on one thread and one processor, asked by wrk on another.
//!
//! ```text
//! cargo run --release [-- ROUNDS]     a table of medians; wrk and taskset must be there
//! web on machinarium|tokio            only the server, on a port that it prints
//! ```
//!
//! Both serve by hyper-util's connection, HTTP/1.1 or HTTP/2 as the client speaks; only what is below hyper differs. Each
//! measurement is a fresh process; rounds go over all of them and then begin again.

mod app;
mod measure;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["on", "machinarium"] => serve::on_machinarium(),
        ["on", "tokio"] => serve::on_tokio(),
        [] => measure::table(5),
        [rounds] if rounds.parse::<usize>().is_ok_and(|rounds| rounds > 0) => {
            measure::table(rounds.parse().expect("it was looked at"))
        }
        _ => {
            eprintln!("usage: web [ROUNDS], or web on machinarium|tokio");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
