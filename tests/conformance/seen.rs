//! Which answers the real kernel was seen to give: the table in README.md, kept true by a test.

use std::collections::BTreeSet;

use machinarium::kernel::{Call, Errno, errno};

use crate::scene::Tally;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/README.md");
const BEGIN: &str = "<!-- begin of the table, which the test writes -->\n";
const END: &str = "<!-- end of the table -->\n";

/// Fails if the table lacks an answer of `tally`; with MACHINARIUM_UPDATE set, adds what it lacks instead.
pub(crate) fn check(tally: &Tally) {
    let text = std::fs::read_to_string(README).expect("README.md");
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (table, after) = rest.split_once(END).expect("the table ends");
    let known = parse(table);
    let seen: BTreeSet<(Call, Errno)> =
        tally.keys().filter_map(|(call, errno)| errno.map(|errno| (*call, errno))).collect();
    let new: Vec<_> = seen.difference(&known).collect();
    if std::env::var_os("MACHINARIUM_UPDATE").is_some() {
        let table = render(&known.union(&seen).copied().collect());
        std::fs::write(README, format!("{before}{BEGIN}{table}{END}{after}")).expect("README.md is ours");
    } else {
        assert!(
            new.is_empty(),
            "Linux answers what README.md does not show, {new:?}: MACHINARIUM_UPDATE=1 adds it"
        );
    }
    let surprises = machinarium::kernel::linux::surprises();
    assert!(surprises.is_empty(), "Linux answers what errno::of does not list: {surprises:?}");
}

fn parse(table: &str) -> BTreeSet<(Call, Errno)> {
    let rows = table.lines().skip(2).map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let call = |name: &str| *Call::ALL.iter().find(|call| format!("{call:?}") == name).expect("a call");
    rows.flat_map(|row| {
        let call = call(row[1]);
        let names: Vec<String> = row[2].split(' ').map(str::to_owned).collect();
        errno::of(call)
            .iter()
            .filter(move |errno| names.contains(&format!("{errno:?}")))
            .map(move |e| (call, *e))
    })
    .collect()
}

fn render(seen: &BTreeSet<(Call, Errno)>) -> String {
    let mut table = "| call | seen | allowed, and never seen here |\n| --- | --- | --- |\n".to_owned();
    for call in Call::ALL {
        let (yes, no): (Vec<Errno>, Vec<Errno>) =
            errno::of(call).iter().partition(|errno| seen.contains(&(call, **errno)));
        let words = |list: Vec<Errno>| list.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>().join(" ");
        table += &format!("| {call:?} | {} | {} |\n", words(yes), words(no));
    }
    table
}
