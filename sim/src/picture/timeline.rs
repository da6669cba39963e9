//! The run as a trace in the format of Chrome's trace viewer, which Perfetto reads: hosts are processes, threads their threads.
//!
//! | there | is |
//! |---|---|
//! | a slice | a thread has the processor |
//! | a flow from a slice to another | a packet, from its departure to its arrival |
//! | an instant | a fault, or a line of the script |

use std::fmt::Write as _;

use super::json::{micros, text};
use crate::simulation::Outcome;

/// The slice that a packet's ends hang on.
const PACKET: u64 = 1_000;

pub(super) fn timeline(run: &Outcome) -> String {
    let mut out = String::from("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n");
    names(&mut out, run);
    for turn in &run.film.turns {
        let (pid, _) = place(run, turn.thread);
        let (tid, from, length) = (turn.thread, micros(turn.from), micros((turn.to - turn.from).max(1)));
        let _ = writeln!(
            out,
            "{{\"ph\":\"X\",\"name\":\"runs\",\"pid\":{pid},\"tid\":{tid},\"ts\":{from},\"dur\":{length}}},"
        );
    }
    for (number, shot) in run.film.shots.iter().enumerate() {
        let label = text(&shot.carried.what.label());
        let ends = [(shot.carried.from, shot.at, "s"), (shot.carried.to, shot.at + shot.carried.delay, "f")];
        for (host, at, phase) in ends {
            let (pid, at, length) = (host.0 + 1, micros(at), micros(PACKET));
            let _ = writeln!(
                out,
                "{{\"ph\":\"X\",\"name\":{label},\"cat\":\"packet\",\"pid\":{pid},\"tid\":{NETWORK},\"ts\":{at},\"dur\":{length}}},\n\
                 {{\"ph\":\"{phase}\",\"bp\":\"e\",\"name\":{label},\"cat\":\"packet\",\"id\":{number},\"pid\":{pid},\"tid\":{NETWORK},\"ts\":{at}}},"
            );
        }
    }
    for line in run.lines.iter().filter(|line| line.host.is_none() || line.text.starts_with("* ")) {
        let (pid, name) = (line.host.map_or(0, |host| host.0 + 1), text(line.text.trim_start_matches("* ")));
        let at = micros(line.at);
        let _ = writeln!(
            out,
            "{{\"ph\":\"i\",\"s\":\"p\",\"name\":{name},\"pid\":{pid},\"tid\":0,\"ts\":{at}}},"
        );
    }
    // The last element has no comma behind it.
    out += "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":0,\"args\":{\"name\":\"script\"}}\n]}\n";
    out
}

/// The thread of each host that packets leave from and come to.
const NETWORK: u32 = u32::MAX;

fn names(out: &mut String, run: &Outcome) {
    let mut name = |pid: u32, tid: Option<u32>, name: &str| {
        let (what, tid) = match tid {
            None => ("process_name", String::new()),
            Some(tid) => ("thread_name", format!("\"tid\":{tid},")),
        };
        let name = text(name);
        let _ = writeln!(
            out,
            "{{\"ph\":\"M\",\"name\":\"{what}\",\"pid\":{pid},{tid}\"args\":{{\"name\":{name}}}}},"
        );
    };
    for (number, host) in run.cast.hosts.iter().enumerate() {
        name(number as u32 + 1, None, host);
        name(number as u32 + 1, Some(NETWORK), "network");
    }
    for number in 0..run.cast.threads.len() as u32 {
        let (pid, thread) = place(run, number);
        name(pid, Some(number), thread);
    }
}

/// The host of a thread, as a process, and the thread's name there.
fn place(run: &Outcome, thread: u32) -> (u32, &str) {
    let (host, name) = run.cast.threads[thread as usize].1.split_once('/').unwrap_or_default();
    let number = run.cast.hosts.iter().position(|other| other == host);
    (number.map_or(0, |number| number as u32 + 1), name)
}
