//! The run as a page: a timeline with a lane for each thread, packets as arrows between hosts, faults, the choices that matter, how
//! likely the failure was, all events to search in, and who waits for whom at the end.
//!
//! One file, drawn by its own script (`page.html`), which fetches nothing. Here is only its data.

use std::fmt::Write as _;

use super::json::text;
use crate::explain::Explanation;
use crate::simulation::Outcome;

const TEMPLATE: &str = include_str!("page.html");
/// Where the data goes.
const PLACE: &str = "/*DATA*/";
/// How many turns, packets and events a page has at most: the last ones, which a browser draws without delay.
const MOST: usize = 20_000;

pub(super) fn page(explanation: &Explanation) -> String {
    TEMPLATE.replace(PLACE, &data(explanation))
}

fn data(explanation: &Explanation) -> String {
    let run = &explanation.run;
    let failure = run.failure.as_ref().map_or(String::new(), ToString::to_string);
    let mut out = String::from("{");
    let _ = write!(out, "\"seed\":{},\"failure\":{},", text(&format!("{:#x}", run.seed)), text(&failure));
    let hosts: Vec<String> = run.cast.hosts.iter().map(|name| text(name)).collect();
    let _ = write!(out, "\"hosts\":[{}],", hosts.join(","));
    let threads: Vec<String> = run.cast.threads.iter().map(|(_, name)| text(name)).collect();
    let _ = write!(out, "\"threads\":[{}],", threads.join(","));
    list(&mut out, "turns", turns(run));
    list(&mut out, "packets", packets(run));
    list(&mut out, "events", events(run));
    list(&mut out, "choices", choices(explanation));
    list(&mut out, "curve", curve(explanation));
    let critical = explanation.critical.as_ref().map_or(0, |critical| critical.told.number);
    let _ = write!(out, "\"critical\":{critical},\"scene\":{}}}", text(&run.scene));
    out
}

fn list(out: &mut String, name: &str, items: Vec<String>) {
    let _ = write!(out, "\"{name}\":[{}],", items.join(","));
}

fn last<T>(all: &[T]) -> &[T] {
    &all[all.len().saturating_sub(MOST)..]
}

fn turns(run: &Outcome) -> Vec<String> {
    let turns = last(&run.film.turns).iter();
    turns.map(|turn| format!("[{},{},{}]", turn.thread, turn.from, turn.to)).collect()
}

fn packets(run: &Outcome) -> Vec<String> {
    let packet = |shot: &crate::film::Shot| {
        let carried = &shot.carried;
        let (from, to, delay) = (carried.from.0, carried.to.0, carried.delay);
        format!("[{from},{to},{},{delay},{}]", shot.at, text(&carried.what.label()))
    };
    last(&run.film.shots).iter().map(packet).collect()
}

fn events(run: &Outcome) -> Vec<String> {
    let event = |line: &crate::trace::Line| {
        let host = line.host.map_or(-1, |host| i64::from(host.0));
        format!("[{},{host},{}]", line.at, text(&line.text))
    };
    last(&run.lines).iter().map(event).collect()
}

fn choices(explanation: &Explanation) -> Vec<String> {
    let choice =
        |told: &crate::words::Told| format!("[{},{},{}]", told.number, told.drawn.at, text(&told.words));
    explanation.told.iter().map(choice).collect()
}

fn curve(explanation: &Explanation) -> Vec<String> {
    let point = |point: &crate::explain::Point| {
        format!("[{},{},{},{}]", point.draws, point.at, point.failed, point.futures)
    };
    explanation.curve.iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_else() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        for banned in ["http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "import("] {
            assert!(!TEMPLATE.contains(banned), "{banned} in the page");
        }
    }
}
