//! Tables in Markdown: one for each kind of measurement, a line for each peer.

use std::fmt::Write;
use std::io;

use crate::case::{Case, Metric};

/// Measurements of one case, round by round.
type Rounds = [Option<Vec<Metric>>];

/// All tables.
pub fn render(cases: &[Case], results: &[Vec<Option<Vec<Metric>>>]) -> String {
    let mut out = String::new();
    let mut kind = "";
    for (case, rounds) in cases.iter().zip(results) {
        let own = case.group.split('/').next().unwrap_or_default();
        if own != kind {
            kind = own;
            let _ = write!(
                out,
                "\n## {kind}\n\n| case | peer | what | median | min .. max | ratio |\n|---|---|---|---:|---:|---:|\n"
            );
        }
        let first = cases.iter().position(|other| other.group == case.group).expect("the case itself");
        case_lines(&mut out, case, rounds, &results[first]);
    }
    out
}

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

fn median(mut values: Vec<f64>) -> f64 {
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

/// Puts the tables into README.md, under what stands there by hand.
pub fn write(tables: &str, rounds: usize) -> io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let by_hand = text.split(MARK).next().unwrap_or_default();
    let (machine, kernel) = (processor(), read("/proc/sys/kernel/osrelease"));
    std::fs::write(
        path,
        format!("{by_hand}{MARK}\n\n{machine}, Linux {kernel}; medians of {rounds} rounds.\n{tables}"),
    )
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
    fn the_middle_of_an_even_count_is_between() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
