//! Rounds of wrk, and a table of what the servers took.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What one measurement is: a path, how many connections.
const CASES: &[(&str, &str, u32)] = &[
    ("one note", "/api/notes/7", 64),
    ("one note", "/api/notes/7", 1000),
    ("a hundred notes", "/api/notes", 64),
];
const SERVERS: [&str; 2] = ["machinarium", "tokio"];
const SECONDS: u32 = 3;

/// One of a server's measurements.
#[derive(Clone, Copy)]
struct Measured {
    /// Microseconds of its processor for a request.
    processor: f64,
    rate: f64,
}

/// Measures so many rounds, and prints the medians.
pub(crate) fn table(rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut all = vec![[const { Vec::new() }; 2]; CASES.len()];
    for _ in 0..rounds {
        for (case, results) in CASES.iter().zip(&mut all) {
            for (server, results) in SERVERS.iter().zip(results) {
                results.push(measure(server, case)?);
            }
        }
    }
    println!("| asked for | connections | server | processor, µs a request | ratio | requests/s | ratio |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for ((what, _, connections), results) in CASES.iter().zip(&all) {
        for (server, results_of) in SERVERS.iter().zip(results) {
            let median_of = |value: fn(&Measured) -> f64| median(results_of.iter().map(value));
            let ratio = |value: fn(&Measured) -> f64| {
                median(results_of.iter().zip(&results[0]).map(|(this, first)| value(this) / value(first)))
            };
            println!(
                "| {what} | {connections} | {server} | {:.2} | {:.2} | {:.0} | {:.2} |",
                median_of(|of| of.processor),
                ratio(|of| of.processor),
                median_of(|of| of.rate),
                ratio(|of| of.rate),
            );
        }
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A server that is killed when nobody asks it any more.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(server: &str, (_, path, connections): &(&str, &str, u32)) -> Result<Measured, Box<dyn Error>> {
    let this = std::env::current_exe()?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(this).args(["on", server]).stdout(Stdio::piped());
    let mut server = Server(command.spawn().map_err(|error| format!("taskset: {error}"))?);
    let mut address = String::new();
    BufReader::new(server.0.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    let url = format!("http://{}{path}", address.trim());
    let asked = |seconds: u32| -> Result<f64, Box<dyn Error>> {
        let mut wrk = Command::new("taskset");
        wrk.args(["-c", "1", "wrk", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), &url]);
        let output = wrk.output()?;
        let said = String::from_utf8(output.stdout)?;
        if !output.status.success() || said.contains("Non-2xx") || said.contains("Socket errors") {
            return Err(format!("wrk: {said}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let line = said.lines().find(|line| line.contains(" requests in ")).ok_or("wrk says nothing")?;
        Ok(line.trim().split(' ').next().ok_or("wrk says nothing")?.parse()?)
    };
    asked(1)?; // to warm up
    let before = processor(server.0.id())?;
    let requests = asked(SECONDS)?;
    let took = processor(server.0.id())? - before;
    Ok(Measured { processor: took * 1e6 / requests, rate: requests / f64::from(SECONDS) })
}

/// Seconds of processor time that a process has taken, by proc(5).
fn processor(process: u32) -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().ok_or("stat")?.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
