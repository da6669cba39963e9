//! Rules about the source that no compiler checks: who may name whom, how long, what is banned, what each file says first.
//!
//! A rule reads one file (or all) and answers complaints, one line each, which say what to do instead. Every rule is tried on
//! a bad sample first, so that it can fail. What clippy can say better is in `.clippy.toml` and is only echoed here
//! where an `allow` would be too easy.

use std::collections::{BTreeMap, BTreeSet};

#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/table.rs"]
mod table;

use source::{Source, code, functions, paths, production, root_names, tree};

/// At the root, besides dot-files.
const ROOT: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "src",
    "sim",
    "tests",
    "loom_tests",
    "benches",
    "target",
];

/// The arrows of `src`: the modules that each module may name. `lib` names all.
const ARROWS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("coroutine", &[]),
    ("shared", &[]),
    ("mark", &[]),
    ("error", &["kernel"]),
    ("machine", &["coroutine", "shared", "kernel", "error"]),
    ("time", &["machine", "kernel", "error"]),
    ("scope", &["machine", "kernel", "error", "time"]),
    ("sync", &["machine", "shared", "kernel", "error", "time"]),
    ("adapter", &["machine", "net", "sync", "tls", "future", "kernel", "error", "time"]),
    ("future", &["machine", "sync", "kernel", "error", "time"]),
    ("io", &["machine", "kernel", "error"]),
    ("net", &["machine", "shared", "sync", "pool", "kernel", "error", "time", "io"]),
    ("message", &["net", "io", "machine", "shared", "kernel", "error"]),
    ("tls", &["io", "net", "machine", "shared", "kernel", "error", "time"]),
    ("signal", &["machine", "shared", "sync", "kernel", "error", "time"]),
    ("shutdown", &["machine", "shared", "signal", "sync", "scope", "kernel", "error", "time"]),
    ("pool", &["machine", "shared", "sync", "kernel", "error", "time"]),
    ("group", &["machine", "net", "sync", "shared", "shutdown", "kernel", "error", "time"]),
    ("inspect", &["machine", "coroutine", "shared", "signal", "net", "kernel", "error", "time"]),
    ("file", &["machine", "pool", "net", "kernel", "error"]),
    ("random", &["machine"]),
    ("guide", &[]),
];

/// What of the library the simulator may name.
const SIM_MAY_NAME: &[&str] = &["kernel", "coroutine", "machine::current", "mark", "run", "sleep"];

/// Where unsafe code may stand, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("src/coroutine/", "stacks and the switch"),
    ("src/kernel/linux", "system calls"),
    ("src/shared/", "memory handed from thread to thread"),
    ("src/machine/current", "the one thread-local"),
    ("src/machine/task.rs", "control blocks in stacks"),
    ("src/machine/scheduler.rs", "calls the switch"),
    ("src/machine/handle.rs", "results left in stacks"),
    ("src/machine/resident.rs", "values that other threads carry"),
    ("src/machine/seat.rs", "whoever stands in a line"),
    ("src/sync/mutex.rs", "the value behind the lock"),
    ("src/sync/rwlock.rs", "the value behind the lock"),
    ("src/scope.rs", "children that borrow"),
    ("src/mark.rs", "the table that the linker makes"),
    ("sim/src/thread.rs", "calls the switch"),
    // The linker gives the program's calls to functions with the C library's own signatures, and what they stand for is a
    // contract between pointers that only the manual knows.
    ("sim/src/guard/calls.rs", "functions of the C library"),
    ("sim/src/guard/mod.rs", "the same, in a macro"),
    // No safe interface to the memory of thread-locals exists.
    ("sim/src/guard/locals.rs", "makes thread-locals"),
];

/// A name that is not to be used.
struct Ban {
    name: &'static str,
    under: &'static [&'static str],
    except: &'static [&'static str],
    instead: &'static str,
}

const LIBRARY: &[&str] = &["src/"];
const SIMULATOR: &[&str] = &["sim/src/"];
const BOTH: &[&str] = &["src/", "sim/src/"];
const KERNEL: &[&str] = &["src/kernel/linux"];
/// hyper's timers speak of std's instants.
const KERNEL_OR_HYPER: &[&str] = &["src/kernel/linux", "src/adapter/hyper.rs"];
const SHARED_OR_KERNEL: &[&str] = &["src/kernel/linux", "src/shared/"];

const BANS: &[Ban] = &[
    ban(
        "std::sync::Mutex",
        LIBRARY,
        SHARED_OR_KERNEL,
        "a RefCell, as a machine is one thread; between machines, src/shared",
    ),
    ban("std::sync::RwLock", LIBRARY, SHARED_OR_KERNEL, "a RefCell, as for Mutex"),
    ban("std::sync::Condvar", LIBRARY, SHARED_OR_KERNEL, "a parked coroutine: this blocks the machine"),
    ban("std::sync::mpsc", LIBRARY, KERNEL, "a mailbox or a channel: this blocks the machine"),
    ban("std::thread::spawn", LIBRARY, KERNEL, "Kernel::spawn: a simulated process has simulated threads"),
    ban("std::thread::Builder", LIBRARY, KERNEL, "Kernel::spawn"),
    ban("std::thread::scope", LIBRARY, KERNEL, "Kernel::spawn and Kernel::join"),
    ban("std::thread::sleep", LIBRARY, KERNEL, "crate::time::sleep: time is the kernel's"),
    ban("std::thread::park", LIBRARY, KERNEL, "Kernel::futex_wait"),
    ban("std::thread::yield_now", LIBRARY, KERNEL, "Kernel::sched_yield"),
    ban("std::net::TcpStream", BOTH, KERNEL, "machinarium::net: std's goes round the kernel trait"),
    ban("std::net::TcpListener", BOTH, KERNEL, "machinarium::net: std's goes round the kernel trait"),
    ban("std::net::UdpSocket", BOTH, KERNEL, "machinarium::net: std's goes round the kernel trait"),
    ban("std::os::unix::net", BOTH, KERNEL, "machinarium::net: std's goes round the kernel trait"),
    ban("std::net::ToSocketAddrs", BOTH, KERNEL, "machinarium::net: std's asks the real resolver"),
    ban("std::time::Instant", LIBRARY, KERNEL_OR_HYPER, "kernel::Instant: the clock is the kernel's"),
    ban("SystemTime::now", BOTH, KERNEL, "Kernel::clock_gettime: the clock is the kernel's"),
    ban("HashMap", BOTH, &[], "BTreeMap, or a Vec by index: no order may come from a hash"),
    ban("HashSet", BOTH, &[], "BTreeSet: no order may come from a hash"),
    ban("RandomState", BOTH, &[], "BTreeMap: no order may come from a hash"),
    ban("f32", SIMULATOR, &[], "a ratio of integers: floats need not replay"),
    ban("f64", SIMULATOR, &[], "a ratio of integers: floats need not replay"),
    ban("is_simulated", BOTH, &[], "nothing: provoke the case from below the kernel trait"),
    ban(
        "thread_local!",
        BOTH,
        // What an OS thread keeps outside of all worlds: which world runs on it, a pool of stacks, whose thread-locals it has.
        &["sim/src/outside.rs"],
        "machine::current, the one thread-local: all simulated threads are one thread of the system",
    ),
    ban("todo!", BOTH, &[], "the code"),
    ban("unimplemented!", BOTH, &[], "the code, or an error that a caller can handle"),
    ban("dbg!", BOTH, &[], "nothing"),
];

const fn ban(
    name: &'static str,
    under: &'static [&'static str],
    except: &'static [&'static str],
    instead: &'static str,
) -> Ban {
    Ban { name, under, except, instead }
}

/// The longest file and function.
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
/// Functions that are one table, and so may be longer.
const TABLES: &[(&str, &str)] = &[("src/kernel/errno.rs", "of")];

#[test]
fn the_tree_is_tidy() {
    let sources = tree();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the tree was not found");
    let rust = || sources.iter().filter(|source| source.path.ends_with(".rs"));
    let product = || rust().filter(|source| starts(&source.path, BOTH));
    let mut complaints = root_entries(&root_names());
    complaints.extend(sources.iter().flat_map(machine_paths));
    complaints.extend(rust().flat_map(length));
    complaints.extend(rust().flat_map(unsafe_code));
    complaints.extend(product().flat_map(header));
    complaints.extend(product().flat_map(banned));
    complaints.extend(product().flat_map(arrows));
    complaints.extend(cycles(product()));
    complaints.extend(dead_files(&sources));
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_promise_has_its_test() {
    let sources = tree();
    let readme = sources.iter().find(|source| source.path == "tests/behavior/README.md").expect("the tables");
    let complaints = table::tables(&readme.text, &sources);
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

// The rules.

fn root_entries(names: &[String]) -> Vec<String> {
    let strangers = names.iter().filter(|name| !name.starts_with('.') && !ROOT.contains(&name.as_str()));
    strangers
        .map(|name| format!("{name}: what is at the root is listed in tests/tidy.rs; this is not"))
        .collect()
}

/// Places on somebody's machine: they mean nothing elsewhere.
fn machine_paths(source: &Source) -> Vec<String> {
    let places = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/")];
    complain(source, |line| {
        places
            .iter()
            .find(|place| line.contains(**place))
            .map(|place| format!("{place} is a place on one machine"))
    })
}

fn header(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//! ").is_some_and(|says| says.split(' ').count() >= 4);
    if says { vec![] } else { vec![format!("{}:1: begin with `//!` and what the file is", source.path)] }
}

fn length(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = source.text.lines().count();
    if starts(&source.path, BOTH) && lines > FILE_LINES {
        complaints.push(format!("{}: {lines} lines, at most {FILE_LINES}: split it by purpose", source.path));
    }
    for (name, line, length) in functions(&code(&source.text)) {
        let path = &source.path;
        if length > FUNCTION_LINES && !TABLES.contains(&(path, &name)) {
            complaints.push(format!(
                "{path}:{line}: {name} has {length} lines, at most {FUNCTION_LINES}: find the seam"
            ));
        }
    }
    complaints
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let island = UNSAFE.iter().any(|(island, _)| source.path.starts_with(island));
    if island || !starts(&source.path, BOTH) {
        return vec![];
    }
    let code = code(production(&source.text));
    let unsafe_lines = paths(&code).into_iter().filter(|(_, path)| path == "unsafe");
    let complaint =
        |line| format!("{}:{line}: unsafe code outside of the islands in tests/tidy.rs", source.path);
    unsafe_lines.map(|(line, _)| complaint(line)).collect()
}

fn banned(source: &Source) -> Vec<String> {
    if source.path.ends_with("/tests.rs") {
        return vec![];
    }
    let here = |ban: &&Ban| starts(&source.path, ban.under) && !starts(&source.path, ban.except);
    let bans: Vec<_> = BANS.iter().filter(here).collect();
    let mut complaints = Vec::new();
    for (line, path) in paths(&code(production(&source.text))) {
        if let Some(ban) = bans.iter().find(|ban| names(&path, ban.name)) {
            complaints.push(format!("{}:{line}: {} is banned: use {}", source.path, ban.name, ban.instead));
        }
    }
    complaints
}

fn arrows(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    // What a macro names is named by whoever uses it.
    let code = code(production(&source.text)).replace("$crate", "      ");
    for (line, path) in paths(&code) {
        if let Some(reason) = forbidden_arrow(source, &path) {
            complaints.push(format!("{}:{line}: {path}: {reason}", source.path));
        }
    }
    complaints
}

fn forbidden_arrow(source: &Source, path: &str) -> Option<String> {
    if starts(&source.path, SIMULATOR) {
        let name = path.strip_prefix("machinarium::")?;
        let may = SIM_MAY_NAME.iter().any(|may| names_under(name, may));
        return (!may).then(|| format!("the simulator may name only {}", SIM_MAY_NAME.join(", ")));
    }
    if names_under(path, "machinarium_sim") || names_under(path, "crate::sim") {
        return Some("nothing in src knows of the simulator".to_owned());
    }
    let (from, to) = (module(&source.path), target(&source.path, path)?);
    let hook = source.path == "src/shared/primitive.rs" && path.starts_with("crate::machine::current::");
    if from == "lib" || from == to || hook {
        return None;
    }
    let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == from) else {
        return Some(format!("{from} has no row in ARROWS of tests/tidy.rs"));
    };
    (!may.contains(&to.as_str())).then(|| format!("{from} may name only {may:?} (ARROWS in tests/tidy.rs)"))
}

/// No module names, by way of others, itself.
fn cycles<'a>(sources: impl Iterator<Item = &'a Source>) -> Vec<String> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in
        sources.filter(|source| starts(&source.path, LIBRARY) && source.path != "src/shared/primitive.rs")
    {
        let from = module(&source.path);
        let named = paths(&code(production(&source.text))).into_iter();
        let to = named.filter_map(|(_, path)| target(&source.path, &path)).filter(|to| *to != from);
        graph.entry(from.clone()).or_default().extend(to);
    }
    graph.remove("lib");
    // Takes away what names nobody that is left; a cycle never goes.
    while let Some(leaf) = graph.iter().find(|(_, to)| !to.iter().any(|to| graph.contains_key(to))) {
        let leaf = leaf.0.clone();
        graph.remove(&leaf);
    }
    graph.into_iter().map(|(from, to)| format!("src: a cycle goes through {from} -> {to:?}")).collect()
}

/// A file that no `mod` line names is compiled by nobody.
fn dead_files(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| starts(&source.path, BOTH) && source.path.ends_with(".rs")) {
        let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (parent, name) = stem.rsplit_once('/').expect("a file of a folder");
        if name == "lib" || name == "main" || parent.ends_with("/bin") {
            continue;
        }
        let parents = [format!("{parent}/mod.rs"), format!("{parent}.rs"), format!("{parent}/lib.rs")];
        let declares = |other: &&Source| {
            parents.contains(&other.path)
                && [";", " {"].iter().any(|end| other.text.contains(&format!("mod {name}{end}")))
        };
        if sources.iter().find(declares).is_none() {
            complaints.push(format!("{}: no `mod {name};` names it: name it or remove it", source.path));
        }
    }
    complaints
}

// What several rules ask.

fn complain(source: &Source, rule: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = source.text.lines().enumerate();
    lines.filter_map(|(at, line)| Some(format!("{}:{}: {}", source.path, at + 1, rule(line)?))).collect()
}

fn starts(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// The module at the crate's root that a file belongs to: `machine` for `src/machine/task.rs`.
fn module(path: &str) -> String {
    path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// The module at the crate's root that a path in a file of `src` names, if it names one.
fn target(file: &str, path: &str) -> Option<String> {
    let mut here: Vec<_> = file.trim_end_matches(".rs").trim_end_matches("/mod").split('/').skip(1).collect();
    if here == ["lib"] {
        here.clear();
    }
    let mut segments = path.split("::").peekable();
    match *segments.peek()? {
        "crate" => {
            segments.next();
            here.clear();
        }
        "super" => {
            while segments.next_if_eq(&"super").is_some() {
                here.pop();
            }
        }
        _ => return None,
    }
    here.extend(segments);
    here.first().filter(|first| **first != "*").map(|first| (*first).to_owned())
}

/// Whether a path in the source is this name, or is below it. A name of one word is meant wherever it stands.
fn names(path: &str, name: &str) -> bool {
    if name.contains("::") {
        names_under(path, name)
    } else {
        path.split("::").any(|segment| segment == name)
    }
}

fn names_under(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

// Each rule on something bad, and on something good beside it.

fn sample(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[track_caller]
fn refuses(rule: impl Fn(&Source) -> Vec<String>, path: &str, bad: &str, good: &str) {
    assert_eq!(rule(&sample(path, bad)).len(), 1, "{path} should be refused once: {bad}");
    assert_eq!(rule(&sample(path, good)), Vec::<String>::new(), "{path} is fine: {good}");
}

#[test]
fn strangers_at_the_root_are_seen() {
    let names = ["src", ".ci", "notes.txt"].map(str::to_owned);
    assert_eq!(root_entries(&names).len(), 1);
}

#[test]
fn machine_paths_are_seen() {
    refuses(machine_paths, "README.md", concat!("run /ho", "me/me/bin/x"), "run bin/x");
}

#[test]
fn missing_headers_are_seen() {
    refuses(header, "src/a.rs", "use x;\n", "//! The thing that does it.\n");
    refuses(header, "src/a.rs", "//! Thing\n", "//! The thing that does it.\n");
}

#[test]
fn long_files_and_functions_are_seen() {
    refuses(length, "src/a.rs", &"//\n".repeat(601), &"//\n".repeat(600));
    let function = |lines: usize| {
        format!("    pub fn f<T>(a: [u8; 4]) {{\n{}    }}\n", "        a;\n".repeat(lines - 2))
    };
    refuses(length, "src/a.rs", &function(71), &function(70));
}

#[test]
fn unsafe_outside_of_the_islands_is_seen() {
    let good = "// unsafe\n#[allow(unsafe_code)]\nlet s = \"unsafe\";";
    refuses(unsafe_code, "src/net/tcp.rs", "fn f() { unsafe { g() } }", good);
    assert!(unsafe_code(&sample("src/scope.rs", "unsafe {}")).is_empty());
}

#[test]
fn banned_names_are_seen_however_they_are_written() {
    let file = "src/net/tcp.rs";
    refuses(banned, file, "let m = std::sync::Mutex::new(1);", "// std::sync::Mutex\nlet m = Mutexes;");
    refuses(banned, file, "use std::{io, sync::{Arc, Mutex}};", "use std::{io, sync::{Arc, MutexLike}};");
    refuses(banned, file, "use std::thread::{self, spawn};", "use std::thread::panicking;");
    refuses(banned, file, "todo!()", "let todo = 1; todo != 2;");
    refuses(banned, file, "use std::collections::HashMap;", "use std::collections::BTreeMap;");
    refuses(banned, "sim/src/net.rs", "let x: f64 = 1;", "let x: u64 = 1; // an f64");
    refuses(
        banned,
        file,
        "a!(r#\"x\"#, '\\'', 'x'); dbg!(x)",
        "a!(r#\"dbg!(\"#, \"\\\"dbg!(\"); /* dbg!( */",
    );
    refuses(
        banned,
        file,
        "thread_local! { }",
        "fn f() {}\n#[cfg(test)]\n#[x]\nmod tests {\nthread_local! { }",
    );
    assert!(banned(&sample("src/kernel/linux.rs", "std::thread::Builder::new()")).is_empty());
    assert!(BANS.iter().all(|ban| !ban.under.is_empty() && !ban.instead.is_empty()));
}

#[test]
fn forbidden_arrows_are_seen() {
    refuses(arrows, "src/kernel/mod.rs", "use crate::machine::Machine;", "use std::io;");
    refuses(arrows, "src/shared/park.rs", "use super::super::kernel::Errno;", "use super::primitive::point;");
    refuses(arrows, "src/shared/park.rs", "crate::machine::current::point()", "super::primitive::point()");
    refuses(arrows, "src/machine/mod.rs", "use super::net::TcpStream;", "use super::kernel::Fd;");
    refuses(arrows, "src/shared/primitive.rs", "crate::machine::run()", "crate::machine::current::point()");
    refuses(arrows, "src/net/tcp.rs", "machinarium_sim::check(f)", "crate::machine::wait()");
    refuses(
        arrows,
        "sim/src/world.rs",
        "use machinarium::net::TcpStream;",
        "use machinarium::{kernel::Fd, machine::current};",
    );
    refuses(arrows, "src/novelty.rs", "use crate::kernel::Fd;", "use std::io;");
}

#[test]
fn cycles_are_seen() {
    let a = sample("src/net/mod.rs", "use crate::io::Buffer;");
    let b = sample("src/io/buffer.rs", "use super::super::{machine, net::Tcp};");
    assert_eq!(cycles([&a, &b].into_iter()).len(), 2);
    assert!(cycles([&a].into_iter()).is_empty());
}

#[test]
fn dead_files_are_seen() {
    let root = || sample("src/lib.rs", "pub mod net;\nmod io { mod a; }\n");
    let files = |text| vec![root(), sample("src/net/mod.rs", text), sample("src/net/tcp.rs", "")];
    assert!(dead_files(&files("mod tcp;")).is_empty());
    assert_eq!(dead_files(&files("mod udp;")).len(), 1);
}

#[test]
fn the_product_rules_see_files() {
    let functions =
        functions("fn a() {\n}\n    fn b(\n        c: u8,\n    ) -> u8 {\n        c\n    }\nfn d();\n");
    let lengths: Vec<_> =
        functions.iter().map(|(name, line, length)| (name.as_str(), *line, *length)).collect();
    assert_eq!(lengths, [("a", 1, 2), ("b", 3, 5)]);
}
