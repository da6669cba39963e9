//! The numbers that are kept, as a table in Markdown, and how others are compared with them.

use std::fmt::Write;
use std::io;
use std::process::Command;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.md");
/// By how many percent a count may rise, besides half of its last digit.
const LIMIT: f64 = 5.0;
/// The same if another compiler made the program.
const OTHER_COMPILER_LIMIT: f64 = 25.0;

/// What one operation takes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) instructions: f64,
    pub(crate) calls: f64,
}

/// The compiler, and a row for each operation.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Table {
    compiler: String,
    rows: Vec<Row>,
}

impl Table {
    /// What was counted now.
    pub(crate) fn new(rows: Vec<Row>) -> io::Result<Table> {
        let output = Command::new("rustc").arg("--version").output()?;
        Ok(Table { compiler: String::from_utf8_lossy(&output.stdout).trim().to_owned(), rows })
    }

    /// What is kept.
    pub(crate) fn kept() -> io::Result<Table> {
        parse(&std::fs::read_to_string(PATH)?)
            .ok_or_else(|| io::Error::other("benches/counts.md has no table"))
    }

    /// Keeps this.
    pub(crate) fn keep(&self) -> io::Result<()> {
        std::fs::write(PATH, self.render())
    }

    fn render(&self) -> String {
        let mut text = format!(
            "# Counts\n\n\
             What an operation takes: instructions on the simulated kernel, counted by callgrind, and system calls on Linux (of what two\n\
             machines do, on the simulated kernel too: on Linux that is a race). Reading the clock is none. Kept by\n\
             `cargo run --release --example counts -- accept`, compared by `.ci/run counts`.\n\n\
             Made by {}.\n\n\
             | operation | instructions | system calls |\n|---|---:|---:|\n",
            self.compiler
        );
        for Row { name, instructions, calls } in &self.rows {
            let _ = writeln!(text, "| {name} | {instructions:.0} | {calls:.3} |");
        }
        text
    }

    /// Line by line what has changed, and whether all is well: nothing has risen by more than the limit, and the operations are the same.
    pub(crate) fn compare(&self, kept: &Table) -> (String, bool) {
        let (mut text, mut well) = (String::new(), true);
        let limit = if self.compiler == kept.compiler { LIMIT } else { OTHER_COMPILER_LIMIT };
        let _ =
            writeln!(text, "{} now, {} then: a rise by {limit} % is too much", self.compiler, kept.compiler);
        for row in &self.rows {
            let old = kept.rows.iter().find(|old| old.name == row.name);
            let risen = old.is_none_or(|old| {
                let over = |old: f64, new: f64, rounding: f64| new > old * (1.0 + limit / 100.0) + rounding;
                over(old.instructions, row.instructions, 0.5) || over(old.calls, row.calls, 0.0005)
            });
            well &= !risen;
            let _ = writeln!(text, "{} {}", if risen { "RISEN" } else { "     " }, line(row, old));
        }
        for old in kept.rows.iter().filter(|old| self.rows.iter().all(|row| row.name != old.name)) {
            well = false;
            let _ = writeln!(text, "GONE  {}", old.name);
        }
        (text, well)
    }
}

fn line(row: &Row, old: Option<&Row>) -> String {
    let pair = |old: Option<f64>, new: f64, digits: usize| match old {
        Some(old) => format!("{old:.digits$} -> {new:.digits$}"),
        None => format!("none -> {new:.digits$}"),
    };
    format!(
        "{:<46} {:>18} instructions {:>14} calls",
        row.name,
        pair(old.map(|old| old.instructions), row.instructions, 0),
        pair(old.map(|old| old.calls), row.calls, 3)
    )
}

fn parse(text: &str) -> Option<Table> {
    let compiler = text.lines().find_map(|line| line.strip_prefix("Made by ")?.strip_suffix('.'))?.to_owned();
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next()?.to_owned();
        Some(Row { name, instructions: cells.next()?.parse().ok()?, calls: cells.next()?.parse().ok()? })
    };
    let rows: Vec<Row> = text.lines().filter(|line| line.starts_with('|')).filter_map(row).collect();
    (!rows.is_empty()).then_some(Table { compiler, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, f64, f64)]) -> Table {
        let row =
            |&(name, instructions, calls): &(&str, f64, f64)| Row { name: name.into(), instructions, calls };
        Table { compiler: "rustc 1.2.3 (4 5)".into(), rows: rows.iter().map(row).collect() }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = table(&[("a, b", 12.0, 0.25), ("c", 3456.0, 2.0)]);
        assert_eq!(parse(&kept.render()), Some(kept));
        assert_eq!(parse("nothing"), None);
    }

    #[test]
    fn rises_over_the_limit_are_seen() {
        let kept = table(&[("a", 100.0, 2.0)]);
        let well = |instructions, calls| table(&[("a", instructions, calls)]).compare(&kept).1;
        assert!(well(100.0, 2.0) && well(105.0, 2.1) && well(10.0, 0.0));
        assert!(!well(106.0, 2.0) && !well(100.0, 2.11));
    }

    #[test]
    fn what_is_zero_may_not_rise() {
        let kept = table(&[("a", 100.0, 0.0)]);
        assert!(table(&[("a", 100.0, 0.0004)]).compare(&kept).1);
        assert!(!table(&[("a", 100.0, 0.01)]).compare(&kept).1);
    }

    #[test]
    fn operations_that_come_and_go_are_seen() {
        let (one, two) = (table(&[("a", 1.0, 1.0)]), table(&[("a", 1.0, 1.0), ("b", 1.0, 1.0)]));
        assert!(!one.compare(&two).1 && !two.compare(&one).1);
    }

    #[test]
    fn another_compiler_may_do_worse() {
        let kept = table(&[("a", 100.0, 2.0)]);
        let other = |instructions| Table { compiler: "rustc 9".into(), ..table(&[("a", instructions, 2.0)]) };
        assert!(other(120.0).compare(&kept).1 && !other(130.0).compare(&kept).1);
    }
}
