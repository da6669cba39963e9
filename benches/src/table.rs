//! Tables in Markdown: one for each kind of measurement, a line for each peer.

use std::fmt::Write;
use std::io;
use std::process::Command;

use crate::case::{Case, Metric};

/// Measurements of one case, round by round.
type Rounds = [Option<Vec<Metric>>];

/// A table for each kind of measurement, by its name.
pub fn render(cases: &[Case], results: &[Vec<Option<Vec<Metric>>>]) -> Vec<(String, String)> {
    let mut tables: Vec<(String, String)> = Vec::new();
    for (case, rounds) in cases.iter().zip(results) {
        let kind = case.group.split('/').next().unwrap_or_default();
        if tables.last().is_none_or(|(last, _)| last != kind) {
            tables.push((kind.to_owned(), HEAD.to_owned()));
        }
        let first = cases.iter().position(|other| other.group == case.group).expect("the case itself");
        let (_, table) = tables.last_mut().expect("it was pushed");
        case_lines(table, case, rounds, &results[first]);
    }
    tables
}

const HEAD: &str = "| case | peer | what | median | min .. max | ratio |\n|---|---|---|---:|---:|---:|\n";

fn case_lines(out: &mut String, case: &Case, rounds: &Rounds, reference: &Rounds) {
    let names: Vec<&str> = rounds
        .iter()
        .flatten()
        .next()
        .map_or(Vec::new(), |metrics| metrics.iter().map(|metric| metric.name.as_str()).collect());
    if names.is_empty() {
        let _ = writeln!(out, "| {} | {} | failed | | | |", case.group, case.peer);
    }
    for name in names {
        let values: Vec<f64> = rounds.iter().filter_map(|round| value(round, name)).collect();
        let ratios: Vec<f64> = rounds
            .iter()
            .zip(reference)
            .filter_map(|(own, other)| Some(value(own, name)? / value(other, name)?))
            .collect();
        let (low, high) =
            values.iter().fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
        let _ = writeln!(
            out,
            "| {} | {} | {name} | {} | {} .. {} | {:.2} |",
            case.group,
            case.peer,
            number(median(values)),
            number(low),
            number(high),
            median(ratios)
        );
    }
}

fn value(round: &Option<Vec<Metric>>, name: &str) -> Option<f64> {
    round.as_ref()?.iter().find(|metric| metric.name == name).map(|metric| metric.value)
}

/// The one in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => grouped(&format!("{value:.0}")),
    }
}

fn grouped(digits: &str) -> String {
    let count = digits.len();
    let comma = |(place, digit): (usize, char)| {
        if place > 0 && (count - place).is_multiple_of(3) { format!(",{digit}") } else { format!("{digit}") }
    };
    digits.chars().enumerate().map(comma).collect()
}

/// Puts the tables into README.md, each in place of the one of that name; others stay as they are.
pub fn write(tables: &[(String, String)], rounds: usize) -> io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let origin = format!(
        "{}, {}, Linux {}; medians of {rounds} rounds.",
        today()?,
        processor(),
        read("/proc/sys/kernel/osrelease")
    );
    std::fs::write(path, replaced(&std::fs::read_to_string(path)?, tables, &origin))
}

/// All below the mark are sections of tables.
fn replaced(text: &str, tables: &[(String, String)], origin: &str) -> String {
    let (by_hand, measured) = text.split_once(MARK).unwrap_or((text, ""));
    let mut sections: Vec<(String, String)> = measured
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect();
    for (name, table) in tables {
        let new = format!("{origin}\n\n{}", table.trim());
        match sections.iter_mut().find(|(old, _)| old == name) {
            Some((_, section)) => *section = new,
            None => sections.push((name.clone(), new)),
        }
    }
    let sections: String =
        sections.iter().map(|(name, section)| format!("\n## {name}\n\n{section}\n")).collect();
    format!("{by_hand}{MARK}\n{sections}")
}

fn today() -> io::Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

const MARK: &str = "<!-- measured -->";

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let name =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    format!("{count} x {}", name.unwrap_or("unknown processor"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(number),
            ["1.23", "12.3", "123", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn a_table_replaces_its_own_section_alone() {
        let table = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let text = replaced("Head.\n\n<!-- measured -->\n", &[table("a", "1\n"), table("b", "2\n")], "Then.");
        assert_eq!(text, "Head.\n\n<!-- measured -->\n\n## a\n\nThen.\n\n1\n\n## b\n\nThen.\n\n2\n");
        let again = replaced(&text, &[table("a", "3\n"), table("c", "4\n")], "Now.");
        let parts = ["Head.", "## a\n\nNow.\n\n3\n", "## b\n\nThen.\n\n2\n", "## c\n\nNow.\n\n4\n"];
        assert!(parts.iter().all(|part| again.contains(part)), "{again}");
    }

    #[test]
    fn the_middle_of_an_even_count_is_between() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
