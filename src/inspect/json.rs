//! Statistics and coroutines as JSON, for tools. Numbers are integers: counts, bytes, and nanoseconds where a name ends with `_ns`.

use std::fmt::{self, Display, Write};

use super::{CoroutineInfo, Dump, Histogram, MachineDump, Statistics};
use crate::kernel::Instant;

/// What all machines have counted, in one line.
pub(super) fn machines(now: Instant, machines: &[Statistics]) -> String {
    line(now, machines.iter().map(|machine| object(machine, "")))
}

/// The same, each with the `list` of its coroutines, which is null if it did not answer.
pub(super) fn dump(now: Instant, dump: &Dump) -> String {
    let coroutines = |of: &MachineDump| match &of.coroutines {
        Some(coroutines) => format!(",\"list\":{}", list(coroutines.iter().map(coroutine))),
        None => ",\"list\":null".to_owned(),
    };
    line(now, dump.machines.iter().map(|machine| object(&machine.statistics, &coroutines(machine))))
}

fn line(now: Instant, machines: impl Iterator<Item = String>) -> String {
    format!("{{\"now_ns\":{},\"machines\":{}}}", now.as_nanos(), list(machines))
}

/// With some fields more.
fn object(of: &Statistics, more: &str) -> String {
    let numbers = [
        ("machine", of.machine),
        ("coroutines", of.coroutines),
        ("ready", of.ready),
        ("stacks", of.stacks),
        ("stacks_cached", of.stacks_cached),
        ("big_stacks", of.big_stacks),
        ("descriptors", of.descriptors),
        ("buffered", of.buffered),
        ("switches", of.switches),
        ("turns", of.turns),
        ("polls", of.polls),
        ("events", of.events),
        ("letters", of.letters),
        ("panics", of.panics),
        ("lag_ns", nanos(of.lag)),
        ("lag_max_ns", nanos(of.lag_max)),
    ];
    let mut text = format!("{{\"name\":{},\"asleep\":{}", Text(&of.name), of.asleep);
    let mut field = |name: &str, value: &dyn Display| {
        write!(text, ",\"{name}\":{value}").expect("a String takes all");
    };
    numbers.iter().for_each(|(name, value)| field(name, value));
    [("runs", &of.runs), ("readies", &of.readies)].iter().for_each(|(name, times)| field(name, &sum(times)));
    text + more + "}"
}

fn coroutine(of: &CoroutineInfo) -> String {
    let CoroutineInfo { id, name, state, waits_for, deadline, .. } = of;
    let deadline = deadline.map_or("null".to_owned(), |deadline| deadline.as_nanos().to_string());
    let (name, waits_for) = (Text(name), Text(waits_for));
    format!(
        "{{\"id\":{id},\"name\":{name},\"state\":\"{state}\",\"waits_for\":{waits_for},\"deadline_ns\":{deadline}}}"
    )
}

fn sum(of: &Histogram) -> String {
    format!("{{\"count\":{},\"sum_ns\":{}}}", of.count(), nanos(of.sum()))
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A string in quotes, with what must be escaped (RFC 8259, 7).
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
            c => f.write_char(c),
        })?;
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(
            Text("a \"b\"\\\n\u{7f}\u{2603}").to_string(),
            "\"a \\\"b\\\"\\\\\\u000a\\u007f\u{2603}\""
        );
    }
}
