//! Child processes, processors, and what the kernel says that a process has used.

use std::process::{Command, Stdio};

use crate::case::{Metric, metric};

/// This program again.
pub fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program has a path"))
}

/// Measures a case in a process of its own.
pub fn run_child(group: &str, peer: &str) -> Option<Vec<Metric>> {
    let output = this_program().args(["--child", group, peer]).stderr(Stdio::inherit()).output().ok()?;
    if !output.status.success() {
        eprintln!("\n{group} {peer}: {}", output.status);
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    let line =
        |line: &str| line.split_once('\t').and_then(|(name, value)| Some(metric(name, value.parse().ok()?)));
    Some(text.lines().filter_map(line).collect())
}

/// Keeps this thread, and those that it starts, on one processor.
pub fn pin(processor: usize) {
    // SAFETY: an all-zero set is empty; the call reads it. On a machine with fewer processors it fails, and nothing is pinned.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Nanoseconds of processor time that all threads of a process have had.
pub fn processor_time(pid: u32) -> f64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return f64::NAN };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Bytes of memory and of page tables that this process has.
pub fn memory() -> f64 {
    memory_of(std::process::id())
}

/// The same of another.
pub fn memory_of(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
    };
    (kib("VmRSS:") + kib("VmPTE:")) * 1024.0
}
