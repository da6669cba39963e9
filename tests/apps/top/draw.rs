//! A view as lines of text: for a screen, each as long as that is wide, or for a file, as long as they are.

use std::time::Duration;

use crate::snapshot::Machine;
use crate::view::{Column, CoroutineRow, MachineRow, View};

/// A line of the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) style: Style,
    pub(crate) text: String,
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Plain,
    /// Above columns.
    Head,
    /// Something is wrong.
    Alert,
    Faint,
}

const HELP: &str = "q quit  space stop  s sort  r reverse  / filter  arrows and pages move";

/// As many lines as the screen has.
pub(crate) fn screen(view: &View, width: usize, height: usize) -> Vec<Line> {
    let mut lines = vec![plain(title(view)), head(MACHINES.to_owned())];
    lines.extend(view.machines().iter().map(machine));
    lines.push(head(coroutine_head(view)));
    let rows = view.coroutines();
    let room = height.saturating_sub(lines.len() + 1);
    let top = view.top.min(rows.len().saturating_sub(room));
    lines.extend(rows[top..].iter().take(room).map(|row| plain(coroutine(row))));
    lines.resize(height.saturating_sub(1), plain(String::new()));
    lines.push(last(view, rows.len()));
    lines.iter_mut().for_each(|line| line.text = fitted(&line.text, width));
    lines.split_off(lines.len().saturating_sub(height.max(1)))
}

/// Everything, for a file or a pipe.
pub(crate) fn all(view: &View) -> Vec<String> {
    let mut lines = vec![title(view), MACHINES.to_owned()];
    lines.extend(view.machines().iter().map(|row| machine(row).text));
    lines.push(coroutine_head(view));
    lines.extend(view.coroutines().iter().map(coroutine));
    lines.iter_mut().for_each(|line| *line = clean(line).trim_end().to_owned());
    lines
}

fn plain(text: String) -> Line {
    Line { style: Style::Plain, text }
}

fn head(text: String) -> Line {
    Line { style: Style::Head, text }
}

fn title(view: &View) -> String {
    let machines = &view.now.machines;
    let coroutines: u64 = machines.iter().map(|machine| machine.coroutines).sum();
    let process = view.now.process.map_or(String::new(), |process| format!("process {process}, "));
    let paused = if view.paused { " (stopped)" } else { "" };
    format!(
        "{}: {process}{}, {}{paused}",
        view.name,
        count(machines.len() as u64, "machine"),
        count(coroutines, "coroutine")
    )
}

fn count(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

const MACHINES: &str =
    "MACHINE          COROUT  READY  SWITCH/S  EPOLL/S  BUSY      LAG  LAG MAX   STACKS  FDS  BUFFERS";

fn machine(row: &MachineRow<'_>) -> Line {
    let of = row.machine;
    let name = format!("{:>2} {}", of.machine, of.name);
    if row.ended {
        return Line { style: Style::Faint, text: format!("{name:15} has ended") };
    }
    let rate = |rate: Option<u64>| rate.map_or("-".to_owned(), scaled);
    let (switches, polls) =
        (rate(row.rates.map(|rates| rates.switches)), rate(row.rates.map(|rates| rates.polls)));
    let busy = row.rates.and_then(|rates| rates.busy).map_or("-".to_owned(), |busy| format!("{busy}%"));
    let [lag, lag_max] = [of.lag_ns, of.lag_max_ns].map(|nanos| short(Duration::from_nanos(nanos)));
    let (stacks, buffers) = (format!("{}+{}", of.stacks, of.stacks_cached), scaled(of.buffered));
    let Machine { coroutines, ready, descriptors, .. } = of;
    let text = format!(
        "{name:15} {coroutines:>7} {ready:>6} {switches:>9} {polls:>8} {busy:>5} {lag:>8} {lag_max:>8} {stacks:>8} {descriptors:>4} {buffers:>8}"
    );
    match of.list {
        Some(_) => plain(text),
        None => Line { style: Style::Alert, text: format!("{text}  does not answer: a coroutine holds it") },
    }
}

fn coroutine_head(view: &View) -> String {
    let mark = |column| match view.sort == column {
        true if view.reversed => "-",
        true => "+",
        false => "",
    };
    let name = |text: &str, column| format!("{text}{}", mark(column));
    format!(
        "{:>6} {:16} {:20} {:8} {:>9} {}",
        "ID",
        name("MACHINE", Column::Machine),
        name("NAME", Column::Name),
        name("STATE", Column::State),
        name("ENDS IN", Column::EndsIn),
        name("WAITS FOR", Column::WaitsFor)
    )
}

fn coroutine(row: &CoroutineRow<'_>) -> String {
    let of = row.coroutine;
    let machine = format!("{} {}", row.machine.machine, row.machine.name);
    let ends_in = row.ends_in.map_or(String::new(), short);
    let waits_for = if of.state == "parked" { &*of.waits_for } else { "" };
    format!("{:>6} {machine:16} {:20} {:8} {ends_in:>9} {waits_for}", of.id, of.name, of.state)
}

fn last(view: &View, found: usize) -> Line {
    let text = match &view.lost {
        Some(why) => return Line { style: Style::Alert, text: format!("{why} (q quits)") },
        None if view.typing => format!("filter: {}_", view.filter),
        None if !view.filter.is_empty() => {
            format!("{} with {:?} (escape shows all)  {HELP}", count(found as u64, "coroutine"), view.filter)
        }
        None => HELP.to_owned(),
    };
    Line { style: Style::Faint, text }
}

/// So many columns, neither more nor less.
fn fitted(text: &str, width: usize) -> String {
    let text: String = clean(text).chars().take(width).collect();
    format!("{text:width$}")
}

/// Names are the program's: what moves a cursor is left out.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// In at most four digits and a letter.
fn scaled(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}K", number / 1000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

/// A duration in a few characters.
fn short(duration: Duration) -> String {
    match duration.as_nanos() {
        0..1_000 => format!("{}ns", duration.as_nanos()),
        1_000..1_000_000 => format!("{}us", duration.as_micros()),
        1_000_000..10_000_000_000 => format!("{}ms", duration.as_millis()),
        _ if duration.as_secs() < 10_000 => format!("{}s", duration.as_secs()),
        _ => format!("{}h", duration.as_secs() / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Key;
    use crate::snapshot::{Coroutine, Snapshot, Times};
    use crate::view::Step;

    fn coroutine(id: u64, name: &str, state: &str, waits_for: &str, deadline_ns: Option<u64>) -> Coroutine {
        Coroutine {
            id,
            name: name.to_owned(),
            state: state.to_owned(),
            waits_for: waits_for.to_owned(),
            deadline_ns,
        }
    }

    fn snapshot(second: u64) -> Snapshot {
        let main = coroutine(1, "main", "parked", "accept 5", None);
        let client = coroutine(7, "client\x1b[2J", "parked", "read 9", Some((second + 3) * 1_000_000_000));
        let machine = Machine {
            name: "kv-0".to_owned(),
            coroutines: 3,
            ready: 1,
            stacks: 3,
            stacks_cached: 12,
            descriptors: 2,
            buffered: 65_536,
            switches: second * 120_000,
            polls: second * 700,
            lag_ns: 1_500,
            lag_max_ns: 2_500_000,
            runs: Times { count: 1, sum_ns: second * 420_000_000 },
            list: Some(vec![main, client, coroutine(9, "b", "ready", "", None)]),
            ..Machine::default()
        };
        let held = Machine { machine: 1, name: "held".to_owned(), coroutines: 1, ..Machine::default() };
        Snapshot { process: Some(42), now_ns: second * 1_000_000_000, machines: vec![machine, held] }
    }

    fn view() -> View {
        let mut view = View::new("/tmp/kv".to_owned());
        let gone = Machine { machine: 2, name: "gone".to_owned(), ..Machine::default() };
        let mut first = snapshot(1);
        first.machines.push(gone);
        view.see(first);
        view.see(snapshot(2));
        view
    }

    fn text(view: &View, width: usize, height: usize) -> Vec<String> {
        let lines = screen(view, width, height);
        assert!(lines.len() == height && lines.iter().all(|line| line.text.chars().count() == width));
        lines.iter().map(|line| line.text.trim_end().to_owned()).collect()
    }

    #[test]
    fn a_screen() {
        assert_eq!(
            text(&view(), 100, 11),
            [
                "/tmp/kv: process 42, 2 machines, 4 coroutines",
                "MACHINE          COROUT  READY  SWITCH/S  EPOLL/S  BUSY      LAG  LAG MAX   STACKS  FDS  BUFFERS",
                " 0 kv-0               3      1      120K      700   42%      1us      2ms     3+12    2      65K",
                " 1 held               1      0         0        0     -      0ns      0ns      0+0    0        0  do",
                " 2 gone         has ended",
                "    ID MACHINE+         NAME                 STATE      ENDS IN WAITS FOR",
                "     1 0 kv-0           main                 parked             accept 5",
                "     7 0 kv-0           client [2J           parked      3000ms read 9",
                "     9 0 kv-0           b                    ready",
                "",
                HELP,
            ]
        );
        let styles: Vec<_> = screen(&view(), 100, 11).iter().map(|line| line.style).collect();
        assert_eq!(styles[..5], [Style::Plain, Style::Head, Style::Plain, Style::Alert, Style::Faint]);
        assert!(all(&view())[3].ends_with("does not answer: a coroutine holds it"));
    }

    #[test]
    fn small_screens() {
        for (width, height) in [(1, 1), (10, 3), (80, 6), (3, 40), (0, 1)] {
            text(&view(), width, height);
        }
        text(&View::new(String::new()), 80, 24);
    }

    #[test]
    fn keys_sort_and_filter_and_move() {
        let mut view = view();
        let mut names = |keys: &[Key]| {
            keys.iter().for_each(|key| assert_eq!(view.press(*key, 20), Step::Stay));
            view.coroutines().iter().map(|row| row.coroutine.id).collect::<Vec<_>>()
        };
        let [s, r] = ['s', 'r'].map(Key::Char);
        assert_eq!(names(&[]), [1, 7, 9]);
        assert_eq!(names(&[s]), [9, 7, 1], "by name");
        assert_eq!(names(&[s]), [1, 7, 9], "by state");
        assert_eq!(names(&[r]), [9, 7, 1]);
        assert_eq!(names(&[r, s]), [9, 1, 7], "by what they wait for");
        assert_eq!(names(&[s]), [7, 1, 9], "by when that ends");
        assert_eq!(names(&[Key::Char('/'), Key::Char('E'), Key::Char('A'), Key::Char('D')]), [7, 9]);
        assert_eq!(names(&[Key::Char(' '), Key::Backspace, Key::Enter, Key::Char('s')]), [7, 9]);
        assert_eq!(names(&[Key::Escape]), [1, 7, 9]);
        // Three coroutines under two machines: one line is left for them here.
        assert_eq!(view.press(Key::End, 8), Step::Stay);
        assert_eq!(view.top, 2);
        assert!(text(&view, 100, 8)[6].contains(" b "), "{:?}", text(&view, 100, 8));
        assert_eq!(view.press(Key::Char('q'), 8), Step::Quit);
    }

    #[test]
    fn time_stands_still_and_a_process_goes_away() {
        let mut view = view();
        view.press(Key::Char('p'), 20);
        view.see(snapshot(9));
        assert_eq!(view.now.now_ns, 2_000_000_000);
        assert!(text(&view, 80, 20)[0].ends_with(" (stopped)"));
        view.press(Key::Char('p'), 20);
        view.lose(&std::io::Error::other("the process has gone"));
        assert!(text(&view, 80, 20)[19].starts_with("the process has gone"));
        assert!(text(&view, 80, 20)[2].contains("kv-0"), "the last picture stays");
        let restarted = Snapshot { process: Some(43), ..snapshot(1) };
        view.see(restarted);
        let machine = &text(&view, 100, 20)[2];
        assert!(
            machine.contains("     1         -        -     - "),
            "nothing is known of its rates: {machine}"
        );
    }
}
