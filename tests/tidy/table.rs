//! The tables of `tests/behavior/README.md`: what they must name, and that the tests which they name are there.

use super::source::Source;

/// What a table of the README is under, and what its first cells must be: these, or so many.
enum Rows {
    Names(&'static str),
    Count(usize),
}

const TABLES: &[(&str, Rows)] = &[
    ("## The behaviours", Rows::Names(BEHAVIOURS)),
    ("## The defects", Rows::Count(10)),
    ("## The traps", Rows::Count(18)),
];

/// C machinarium's tests.
const BEHAVIOURS: &str = "accept_cancel accept_timeout advice_keepalive_usr_timeout channel_cancel channel_create \
    channel_rw0 channel_rw1 channel_rw2 channel_rw3 channel_rw4 channel_shared_create channel_shared_rw0 \
    channel_shared_rw1 channel_shared_rw2 channel_timeout client_server0 client_server1 client_server2 \
    client_server_unix_socket client_server_unix_socket_no_msg condition0 config connect connect_cancel0 \
    connect_cancel1 connect_timeout context_switch coroutine_names create0 create1 eventfd getaddrinfo0 \
    getaddrinfo1 getaddrinfo2 heap hm_hash init io_new join mutex_coroutines mutex_threads mutex_timeout \
    producer_consumer0 producer_consumer1 producer_consumer2 queue read_10mb0 read_10mb1 read_10mb2 read_cancel \
    read_timeout read_var ring_buffer sem signal0 signal1 sleep sleep_cancel0 sleep_yield sleeplock stat tls0 \
    tls_read_10mb0 tls_read_10mb1 tls_read_10mb2 tls_read_multithread tls_read_var tls_unix_socket \
    tls_unix_socket_no_msg tsan_simple_race_example vrb wait_flag_simple wait_flag_timeout wait_group_lifetime \
    wait_group_simple wait_group_timeout wait_list_compare_wait_timeout wait_list_compare_wait_wrong_value \
    wait_list_notify_after_compare_wait wait_list_notify_after_wait wait_list_notify_all \
    wait_list_one_producer_multiple_consumers wait_list_one_producer_multiple_consumers_threads \
    wait_list_without_notify";

/// Behaviours that cannot be had here: their row says why.
const NONE: &[&str] = &["hm_hash"];

/// The complaints about the README, of which `sources` has the tests.
pub(crate) fn tables(readme: &str, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (title, expected) in TABLES {
        let rows = rows(readme, title);
        let names: Vec<_> = rows.iter().map(|row| row[0]).collect();
        match expected {
            Rows::Names(all) => complaints.extend(difference(title, &names, all)),
            Rows::Count(count) if *count != names.len() => {
                complaints.push(format!("{title}: {} rows, not {count}", names.len()));
            }
            Rows::Count(_) => {}
        }
        complaints.extend(rows.iter().flat_map(|row| missing(row, sources)));
    }
    complaints
}

/// The cells of the rows of the table under a title.
fn rows<'a>(readme: &'a str, title: &str) -> Vec<Vec<&'a str>> {
    let lines = readme.lines().skip_while(|line| *line != title).skip(1);
    let table = lines.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
    // The first of them is the table's head.
    table.skip(1).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What is in one list of names and not in the other, and what is twice in the first.
fn difference(title: &str, names: &[&str], all: &str) -> Vec<String> {
    let absent = all.split_whitespace().filter(|name| !names.contains(name));
    let mut complaints: Vec<_> = absent.map(|name| format!("{title}: {name} is left out")).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) || !all.split_whitespace().any(|known| known == *name) {
            complaints.push(format!("{title}: {name} is there twice, or is no name of a behaviour"));
        }
    }
    complaints
}

/// The tests that a row names and that do not exist.
fn missing(row: &[&str], sources: &[Source]) -> Vec<String> {
    let tests: Vec<_> = row.last().into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    if tests.is_empty() && !NONE.contains(&row[0]) {
        return vec![format!("{}: no test is named", row[0])];
    }
    let absent = tests.into_iter().filter(|test| !exists(test, sources));
    absent.map(|test| format!("{}: there is no test {test}", row[0])).collect()
}

/// Whether `file::test` is a function which is a test.
fn exists(test: &str, sources: &[Source]) -> bool {
    let Some((file, name)) = test.rsplit_once("::") else { return false };
    let path = if file.ends_with(".rs") { file.to_owned() } else { format!("tests/behavior/{file}.rs") };
    let Some(source) = sources.iter().find(|source| source.path == path) else { return false };
    let Some((before, _)) = source.text.split_once(&format!("fn {name}()")) else { return false };
    // The attributes and comments right above it.
    before.lines().rev().take_while(|line| !line.trim().is_empty()).any(|line| line.trim() == "#[test]")
}

#[test]
fn tests_that_are_not_there_are_seen() {
    let text = "#[test]\n#[ignore]\nfn good() {\n}\n\nfn helper() {}\n".to_owned();
    let sources = [Source { path: "tests/behavior/tcp.rs".to_owned(), text }];
    assert!(missing(&["a", "b", "`tcp::good`, `tests/behavior/tcp.rs::good`"], &sources).is_empty());
    for bad in ["`tcp::bad`", "`udp::good`", "`tcp::helper`", "none", "`good`", "`tcp::good`, `tcp::bad`"] {
        assert_eq!(missing(&["a", bad], &sources).len(), 1, "{bad}");
    }
    assert!(missing(&["hm_hash", "none: why"], &sources).is_empty());
}

#[test]
fn names_that_are_left_out_or_invented_are_seen() {
    assert!(difference("t", &["a", "b"], "a b").is_empty());
    for bad in [&["a"][..], &["a", "b", "b"], &["a", "b", "c"]] {
        assert_eq!(difference("t", bad, "a b").len(), 1, "{bad:?}");
    }
    let readme = "## T\n\n| x | y |\n|---|---|\n| a | b |\n\n## U\n\n| c | d |\n|---|---|\n";
    assert_eq!(rows(readme, "## T"), [["a", "b"]]);
    assert_eq!(BEHAVIOURS.split_whitespace().count(), 84);
}
