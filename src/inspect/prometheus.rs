//! What machines have counted, as Prometheus reads it: the text format 0.0.4, in which OpenMetrics scrapers take it too.
//!
//! The table is the list of metrics: name, kind, what it means, and where it is in [`Statistics`]. A program adds its own with the same
//! [`Exposition`].

use std::fmt::{self, Display, Write};
use std::time::Duration;

use super::{Histogram, Statistics, statistics};
use crate::error::Misuse;

/// Its name, what it means, and where it is.
type Metric<T> = (&'static str, &'static str, fn(&Statistics) -> T);

#[rustfmt::skip]
const GAUGES: &[Metric<f64>] = &[
    ("asleep", "1 while the machine sleeps in epoll_wait; 0 for long, with the same turns, is a coroutine that holds it", |s| f64::from(u8::from(s.asleep))),
    ("coroutines", "coroutines that have not ended", |s| s.coroutines as f64),
    ("ready", "coroutines ready to run when the machine last came to its loop", |s| s.ready as f64),
    ("stacks", "stacks in use, also by coroutines that have ended and were not joined", |s| s.stacks as f64),
    ("stacks_cached", "unused stacks that are kept with their memory", |s| s.stacks_cached as f64),
    ("big_stacks", "big stacks in use", |s| s.big_stacks as f64),
    ("descriptors", "descriptors that the machine watches", |s| s.descriptors as f64),
    ("buffered_bytes", "bytes in buffers of streams: read ahead, not yet sent, or in a relay", |s| s.buffered as f64),
    ("message_buffers_used", "buffers that messages hold, wherever they are", |s| s.messages.taken.saturating_sub(s.messages.returned) as f64),
    ("message_bytes_used", "bytes of these", |s| s.messages.used_bytes as f64),
    ("message_bytes_cached", "bytes of buffers kept for later messages", |s| s.messages.cached_bytes as f64),
    ("timer_lag_max_seconds", "how late the latest of all timers was", |s| s.lag_max.as_secs_f64()),
];

#[rustfmt::skip]
const COUNTERS: &[Metric<f64>] = &[
    ("switches_total", "switches to a coroutine", |s| s.switches as f64),
    ("turns_total", "turns of the loop", |s| s.turns as f64),
    ("polls_total", "calls of epoll_wait", |s| s.polls as f64),
    ("events_total", "events that these have told of", |s| s.events as f64),
    ("letters_total", "letters of other machines: wake-ups, coroutines to start, stops", |s| s.letters as f64),
    ("panics_total", "panics of coroutines that nobody has joined", |s| s.panics as f64),
    ("message_buffers_allocated_total", "message buffers for which memory was allocated, none being kept", |s| s.messages.allocated as f64),
];

#[rustfmt::skip]
const HISTOGRAMS: &[Metric<Histogram>] = &[
    ("timer_lag_seconds", "how late timers were when the machine came to its loop", |s| s.lags),
    ("run_seconds", "how long coroutines ran from one switch to the next (counted with Tuning::timing)", |s| s.runs),
    ("ready_seconds", "how long coroutines were ready before they ran (counted with Tuning::timing)", |s| s.readies),
];

/// The statistics of all machines of this process, as text for Prometheus: gauges, counters and histograms whose names begin with
/// `machinarium_`, with the labels `machine` (its number) and `name`. Each has a line of help that says what it means.
///
/// # Errors
/// Outside a machine.
///
/// ```
/// let result: std::io::Result<()> = machinarium::run(|| {
///     let text = machinarium::inspect::prometheus()?.to_string();
///     assert!(text.contains("machinarium_coroutines{machine=\"0\",name=\"machine-0\"} 1\n"));
///     Ok(())
/// });
/// result.unwrap();
/// ```
pub fn prometheus() -> Result<Exposition, Misuse> {
    let machines = statistics()?;
    let labels: Vec<_> =
        machines.iter().map(|of| [("machine", of.machine.to_string()), ("name", of.name.clone())]).collect();
    let mut text = Exposition::default();
    for (kind, table) in [("gauge", GAUGES), ("counter", COUNTERS)] {
        for (name, help, read) in table {
            let name = format!("machinarium_{name}");
            text.family(&name, kind, help);
            machines
                .iter()
                .zip(&labels)
                .for_each(|(of, labels)| text.sample(&name, &borrowed(labels), read(of)));
        }
    }
    for (name, help, read) in HISTOGRAMS {
        let name = format!("machinarium_{name}");
        text.family(&name, "histogram", help);
        machines
            .iter()
            .zip(&labels)
            .for_each(|(of, labels)| text.histogram(&name, &borrowed(labels), &read(of)));
    }
    Ok(text)
}

fn borrowed<'a>(labels: &'a [(&'static str, String); 2]) -> [(&'a str, &'a str); 2] {
    labels.each_ref().map(|(name, value)| (*name, value.as_str()))
}

/// Metrics as text, for Prometheus. `Display` is that text; its media type is [`Exposition::MEDIA_TYPE`].
///
/// ```
/// use machinarium::inspect::Exposition;
/// let mut text = Exposition::default();
/// text.family("pool_waiting", "gauge", "clients that wait for a server");
/// text.sample("pool_waiting", &[("pool", "a \"b\"")], 3.0);
/// let expected = "# HELP pool_waiting clients that wait for a server\n# TYPE pool_waiting gauge\npool_waiting{pool=\"a \\\"b\\\"\"} 3\n";
/// assert_eq!(text.to_string(), expected);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// What an HTTP answer says of this text.
    pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a metric, of the kind `gauge`, `counter` or `histogram`; its samples come next.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// A value, with labels. The names of metrics and labels are the caller's, who sees to it that Prometheus takes them; values of labels
    /// may be anything.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.line(format_args!("{name}{} {value}", Labels(labels, None)));
    }

    /// All samples of a histogram, in seconds.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.buckets() {
            below += count;
            let bound = bound.map_or("+Inf".to_owned(), |bound| seconds(bound).to_string());
            self.line(format_args!("{name}_bucket{} {below}", Labels(labels, Some(&bound))));
        }
        self.line(format_args!("{name}_sum{} {}", Labels(labels, None), seconds(histogram.sum())));
        self.line(format_args!("{name}_count{} {below}", Labels(labels, None)));
    }

    /// Text of the same format, made elsewhere.
    pub fn append(&mut self, other: &Exposition) {
        self.0.push_str(&other.0);
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a String takes all");
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Labels in braces, with the bound of a bucket as the last, if it is one.
struct Labels<'a>(&'a [(&'a str, &'a str)], Option<&'a str>);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.1.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in self.0.iter().copied().chain(bound) {
            write!(f, "{before}{name}=\"{}\"", Escaped(value))?;
            before = ',';
        }
        if before == ',' { f.write_char('}') } else { Ok(()) }
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}
