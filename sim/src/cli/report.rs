//! Reports of hunts as JSON lines, and their sum.
//!
//! A hunt adds one line for itself, and one for the failure that it found:
//!
//! ```json
//! {"kind":"hunt","program":"kv","shard":"0/4","seeds":250,"millis":4100,"choices":9000000,"calls":800000,"faults":{"Loss":17}}
//! {"kind":"failure","program":"kv","seed":31,"verdict":"Panic","host":"client0","message":"...","digest":"...","command":"..."}
//! ```
//!
//! Lines are added in one write, so that hunts may share a file, and what `report` does not know it passes over.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::Report;
use super::hunt::named;
use super::json::Json;
use super::shard::Shard;
use crate::harness::Found;
use crate::picture::json::text;
use crate::report::class;

/// What a hunt has to say.
pub(super) struct Lines<'a> {
    pub(super) program: &'static str,
    pub(super) shard: Option<Shard>,
    pub(super) found: &'a Found,
    #[allow(clippy::disallowed_types)] // hunts take real time
    pub(super) started: std::time::Instant,
}

impl Lines<'_> {
    fn text(&self, command: &dyn Fn(u64) -> String) -> String {
        let Lines { program, shard, found, started } = self;
        let stats = &found.stats;
        let faults: Vec<String> =
            stats.faults.iter().map(|(kind, count)| format!("\"{kind:?}\":{count}")).collect();
        let shard = shard.map_or("null".to_owned(), |shard| text(&shard.to_string()));
        let mut lines = format!(
            "{{\"kind\":\"hunt\",\"program\":{},\"shard\":{shard},\"seeds\":{},\"millis\":{},\"choices\":{},\"calls\":{},\
             \"faults\":{{{}}}}}\n",
            text(program),
            found.seeds,
            started.elapsed().as_millis(),
            stats.choices,
            stats.calls,
            faults.join(",")
        );
        let failed = found.failure.as_ref();
        if let Some((outcome, failure)) =
            failed.and_then(|outcome| Some((outcome, outcome.failure.as_ref()?)))
        {
            let location = failure.panic.as_ref().map_or("", |panic| &panic.location);
            lines += &format!(
                "{{\"kind\":\"failure\",\"program\":{},\"seed\":{},\"verdict\":\"{:?}\",\"host\":{},\"location\":{},\
                 \"message\":{},\"digest\":\"{:016x}\",\"command\":{}}}\n",
                text(program),
                outcome.seed,
                failure.kind,
                text(&failure.host),
                text(location),
                text(&failure.message),
                outcome.digest,
                text(&command(outcome.seed))
            );
        }
        lines
    }
}

/// Adds the lines to a file.
pub(super) fn append(path: &Path, lines: &Lines<'_>, command: &dyn Fn(u64) -> String) -> io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).append(true).open(path).map_err(|error| named(path, &error))?;
    file.write_all(lines.text(command).as_bytes())
}

/// Failures of one kind.
struct Group {
    count: u64,
    seed: u64,
    message: String,
    command: String,
}

/// The sum of many reports.
#[derive(Default)]
struct Sum {
    hunts: u64,
    seeds: u64,
    millis: u64,
    calls: u64,
    faults: BTreeMap<String, u64>,
    /// By program, verdict, host, place, and the message without what differs.
    failures: BTreeMap<[String; 5], Group>,
}

impl Report {
    pub(super) fn run(&self) -> ExitCode {
        let mut sum = Sum::default();
        for path in &self.files {
            if let Err(error) = sum.read(path) {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        }
        print!("{}", sum.text());
        if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Sum {
    fn read(&mut self, path: &Path) -> io::Result<()> {
        let text = fs::read_to_string(path).map_err(|error| named(path, &error))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = || named(path, &format_args!("line {} is no report: {line}", number + 1));
            self.add(&Json::parse(line).ok_or_else(wrong)?);
        }
        Ok(())
    }

    fn add(&mut self, line: &Json) {
        let number = |name: &str| line.get(name).number();
        let text = |name: &str| line.get(name).as_text().to_owned();
        match line.get("kind").as_text() {
            "hunt" => {
                self.hunts += 1;
                self.seeds += number("seeds");
                self.millis += number("millis");
                self.calls += number("calls");
                if let Json::Object(faults) = line.get("faults") {
                    for (kind, count) in faults {
                        *self.faults.entry(kind.clone()).or_default() += count.number();
                    }
                }
            }
            "failure" => {
                let message = text("message");
                let key = [text("program"), text("verdict"), text("host"), text("location"), class(&message)];
                let seed = number("seed");
                let command = text("command");
                let group = self.failures.entry(key).or_insert_with(|| Group {
                    count: 0,
                    seed: u64::MAX,
                    message: String::new(),
                    command: String::new(),
                });
                group.count += 1;
                if seed < group.seed {
                    (group.seed, group.message, group.command) = (seed, message, command);
                }
            }
            _ => {}
        }
    }

    fn text(&self) -> String {
        let seconds = (self.millis / 1000).max(1);
        let mut text = format!(
            "{} hunts, {} seeds in {} s of their machines ({} seeds/s), {} calls\n",
            self.hunts,
            self.seeds,
            self.millis / 1000,
            self.seeds / seconds,
            self.calls
        );
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        text +=
            &format!("faults: {}\n", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
        for ([program, verdict, host, location, _], group) in &self.failures {
            let place = if location.is_empty() { String::new() } else { format!(" at {location}") };
            text += &format!(
                "\n{program}: {verdict} on {host}{place}, {} times: {}\n",
                group.count, group.message
            );
            text += &format!("  lowest seed {}: {}\n", group.seed, group.command);
        }
        text += if self.failures.is_empty() { "passed\n" } else { "\nFAILED\n" };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_added_and_failures_of_one_kind_are_one() {
        let mut sum = Sum::default();
        let failure = |seed: u64, message: &str| {
            format!(
                r#"{{"kind":"failure","program":"kv","verdict":"Panic","host":"a","seed":{seed},"message":"{message}","command":"explain {seed}"}}"#
            )
        };
        for line in [
            r#"{"kind":"hunt","seeds":10,"millis":2000,"calls":5,"faults":{"Loss":2}}"#,
            r#"{"kind":"hunt","seeds":20,"millis":1000,"calls":5,"faults":{"Loss":1,"Eintr":4}}"#,
            r#"{"kind":"something new"}"#,
            &failure(9, "key 12 is lost"),
            &failure(4, "key 7 is lost"),
            &failure(8, "another one"),
        ] {
            sum.add(&Json::parse(line).unwrap());
        }
        let text = sum.text();
        assert!(
            text.starts_with("2 hunts, 30 seeds in 3 s of their machines (10 seeds/s), 10 calls\n"),
            "{text}"
        );
        assert!(text.contains("faults: 4 Eintr, 3 Loss\n"), "{text}");
        assert!(
            text.contains("kv: Panic on a, 2 times: key 7 is lost\n  lowest seed 4: explain 4\n"),
            "{text}"
        );
        assert!(text.ends_with("FAILED\n"));
    }
}
