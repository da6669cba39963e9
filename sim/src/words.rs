//! Choices in plain words: what each that is not boring has done to the run.
//!
//! A site says only where a number was drawn. What came of it is found beside it: faults leave a line in the trace, and packets
//! are in the film, each with how many choices had been made by then. So a choice is told by the first line or packet that came
//! after it, in the words of its site.

use std::time::Duration;

use machinarium::kernel::Instant;

use crate::choice::Subsystem;
use crate::film::Shot;
use crate::journal::Drawn;
use crate::simulation::Outcome;

/// A choice that is not boring.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its number in the run, from 1.
    pub(crate) number: usize,
    pub(crate) drawn: Drawn,
    pub(crate) words: String,
}

/// All choices of a run that are not boring, in their order. The run was kept with journal, film and all events.
pub(crate) fn tell(outcome: &Outcome) -> Vec<Told> {
    let all = outcome.journal.iter().enumerate().filter(|(_, drawn)| drawn.choice.answer != 0);
    all.map(|(place, drawn)| Told {
        number: place + 1,
        drawn: *drawn,
        words: words(outcome, place + 1, drawn),
    })
    .collect()
}

fn words(outcome: &Outcome, number: usize, drawn: &Drawn) -> String {
    let who = who(outcome, drawn);
    let answer = drawn.choice.answer;
    let fault = || {
        fault(outcome, number)
            .unwrap_or_else(|| format!("'{}' is {answer} of {}", drawn.choice.site, drawn.of))
    };
    match (drawn.stream.subsystem, drawn.choice.site) {
        (Subsystem::Order, _) => {
            let next = next_event(outcome, number);
            format!(
                "of {} events of one instant, the {} in line comes first{next}",
                drawn.of,
                ordinal(answer + 1)
            )
        }
        (Subsystem::Cpu, "cost") => {
            let call = next_event(outcome, number);
            format!("{who} takes {answer} of {} steps longer{call}", drawn.of)
        }
        (Subsystem::Cpu, "stall" | "host stall") => format!("{who} is to stall, {}", later(drawn)),
        (Subsystem::Link, "latency") => shot(outcome, number).map_or_else(
            || format!("a packet of {who} takes longer"),
            |shot| {
                format!(
                    "{} takes {} for {}",
                    link(outcome, shot),
                    time(shot.carried.delay),
                    shot.carried.what.label()
                )
            },
        ),
        (Subsystem::Link, _) => format!("{who}: {}", fault()),
        (Subsystem::Socket, "split" | "split at") => shot(outcome, number).map_or_else(
            || format!("a message of {who} is cut"),
            |shot| {
                format!("{} carries a message in pieces: {}", link(outcome, shot), shot.carried.what.label())
            },
        ),
        (Subsystem::Epoll, "epoll order") => {
            format!("epoll_wait of {who} tells another event first, of {} that are there", drawn.of)
        }
        (Subsystem::Epoll, "subset") => format!("epoll_wait of {who} does not tell all that it could"),
        (Subsystem::Clock, "skew" | "uptime" | "drift") => {
            format!("the clocks of {who} have a {} of {answer} of {}", drawn.choice.site, drawn.of)
        }
        (Subsystem::Disk, "file call") => format!("{who} waits {} times as long for a file", 1 << answer),
        (Subsystem::Name, "lookup") => format!("{who} waits {} times as long for a name", answer + 1),
        (Subsystem::Script, site) => format!("the script draws {answer} of {} ('{site}')", drawn.of),
        (Subsystem::Swarm, "strength") => {
            format!("the swarm turns a kind of faults on, {answer} of {}", drawn.of)
        }
        (Subsystem::Swarm, site) => {
            format!("{who} begins with other limits: '{site}' is {answer} of {}", drawn.of)
        }
        (Subsystem::Fault, site) if is_countdown(site) => {
            format!("{who} is to meet '{site}', {}", later(drawn))
        }
        _ => format!("{who}: {}", fault()),
    }
}

/// Whether a choice about faults of calls says when the next one comes, and not what it is.
fn is_countdown(site: &str) -> bool {
    !matches!(site, "which error" | "backlog" | "short write" | "buffer" | "short file call")
}

/// When a countdown ends: the larger its answer, the sooner.
fn later(drawn: &Drawn) -> String {
    match drawn.of - drawn.choice.answer {
        1 => "at the next call".to_owned(),
        calls => format!("{calls} calls later"),
    }
}

/// Who the stream belongs to.
fn who(outcome: &Outcome, drawn: &Drawn) -> String {
    let id = drawn.stream.id;
    let cast = &outcome.cast;
    match drawn.stream.subsystem {
        Subsystem::Order | Subsystem::Script => "the world".to_owned(),
        Subsystem::Cpu if id >> 63 == 1 => format!("host {}", cast.host((id & !(1 << 63)) >> 40)),
        Subsystem::Cpu | Subsystem::Epoll | Subsystem::Name => cast.thread(id).to_owned(),
        Subsystem::Clock => cast.host(id).to_owned(),
        Subsystem::Link | Subsystem::Socket => {
            format!("socket {} of {}", id & 0x7fff_ffff, cast.host(id >> 32))
        }
        Subsystem::Disk if id >> 63 == 1 => format!("the disk of {}", cast.host(id & 0xffff_ffff)),
        Subsystem::Fault if cast.threads.iter().any(|(identity, _)| *identity == id) => {
            cast.thread(id).to_owned()
        }
        Subsystem::Fault => cast.host(id >> 28).to_owned(),
        Subsystem::Signal => cast.host(id >> 20).to_owned(),
        Subsystem::Swarm if id >> 63 == 1 => cast.host((id & !(1 << 63)) >> 20).to_owned(),
        _ => cast.thread(id).to_owned(),
    }
}

/// The first fault in the trace after the choice, if it came of it: before the next choice was made.
fn fault(outcome: &Outcome, number: usize) -> Option<String> {
    let lines = after(outcome, number).take_while(|line| line.draws <= number as u64 + 1);
    let fault = lines.into_iter().find_map(|line| line.text.strip_prefix("* "))?;
    Some(fault.to_owned())
}

/// What came next in the trace.
fn next_event(outcome: &Outcome, number: usize) -> String {
    after(outcome, number).find(|line| line.host.is_some()).map_or(String::new(), |line| {
        let host = outcome.cast.host(line.host.map_or(0, |host| u64::from(host.0)));
        format!(", before {host}: {}", short(&line.text))
    })
}

fn after(outcome: &Outcome, number: usize) -> impl Iterator<Item = &crate::trace::Line> {
    let from = outcome.lines.partition_point(|line| line.draws < number as u64);
    outcome.lines[from..].iter()
}

/// The first packet that left after the choice.
fn shot(outcome: &Outcome, number: usize) -> Option<&Shot> {
    outcome.film.shots.iter().find(|shot| shot.draws >= number as u64)
}

fn link(outcome: &Outcome, shot: &Shot) -> String {
    let host = |host: crate::env::HostIndex| outcome.cast.host(u64::from(host.0));
    format!("the link {} -> {}", host(shot.carried.from), host(shot.carried.to))
}

/// A duration of virtual time as one says it.
pub(crate) fn time(nanos: u64) -> String {
    format!("{:.3?}", Duration::from_nanos(nanos))
}

/// A moment of a run.
pub(crate) fn moment(nanos: u64) -> String {
    Instant::from_nanos(nanos).to_string()
}

fn short(text: &str) -> &str {
    text.char_indices().nth(60).map_or(text, |(end, _)| &text[..end])
}

fn ordinal(number: u64) -> String {
    let ending = match number % 10 {
        _ if (11..=13).contains(&(number % 100)) => "th",
        1 => "st",
        2 => "nd",
        3 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_line() {
        let all: Vec<String> = [1, 2, 3, 4, 11, 22, 113].into_iter().map(ordinal).collect();
        assert_eq!(all, ["1st", "2nd", "3rd", "4th", "11th", "22nd", "113th"]);
    }
}
