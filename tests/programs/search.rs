//! The subcommands that search for bugs, of one program for all: shards and their reports, a bug explained, a record repeated.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::program::{output, path};

/// A directory of its own, empty.
fn place(name: &str) -> PathBuf {
    let place = std::env::temp_dir().join(format!("machinarium-search-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).unwrap();
    place
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn shards_share_the_seeds_and_their_reports_are_added_up() {
    let place = place("shards");
    let file = place.join("reports.jsonl");
    let file = file.to_str().unwrap();
    for shard in ["0/2", "1/2"] {
        let hunt = ["hunt", "--seeds", "31", "--shard", shard, "--reports", file];
        let output = output("echo", &hunt);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
    let sum = output("echo", &["report", file]);
    let said = text(&sum.stdout);
    assert_eq!(sum.status.code(), Some(0), "{said}");
    assert!(said.starts_with("2 hunts, 31 seeds in ") && said.ends_with("passed\n"), "{said}");
    // A bug that each finds is one failure, found twice.
    for shard in ["0/2", "1/2"] {
        let hunt = ["hunt", "--seeds", "600", "--shard", shard, "--reports", file, "--bug", "short-write"];
        assert_eq!(output("echo", &hunt).status.code(), Some(1));
    }
    let sum = output("echo", &["report", file]);
    let said = text(&sum.stdout);
    assert_eq!(sum.status.code(), Some(1), "{said}");
    assert!(said.starts_with("4 hunts, ") && said.ends_with("FAILED\n"), "{said}");
    assert!(said.contains("echo explain") || said.contains("-- explain --seed "), "{said}");
    let output = output("echo", &["report", "/nowhere/at/all"]);
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1));
    std::fs::remove_dir_all(place).unwrap();
}

fn with(name: &str, value: &str, arguments: &[&str]) -> Output {
    Command::new(path("echo")).args(arguments).env(name, value).output().unwrap()
}

#[test]
fn a_machine_of_a_fleet_finds_out_which_it_is() {
    let said = text(&with("JOB_COMPLETION_INDEX", "2", &["hunt", "--seeds", "10"]).stderr);
    assert!(said.contains("shard 2, seeds from 21, each 1"), "{said}");
    let said = text(&with("JOB_COMPLETION_INDEX", "2", &["hunt", "--seeds", "10", "--shard", "1/4"]).stderr);
    assert!(said.contains("shard 1/4, seeds from 2, each 4"), "what one says comes first: {said}");
}

/// The script of the guide, with two tasks in place of 64.
#[test]
fn the_guides_slurm_script_hunts() {
    let guide = include_str!("../../src/guide/ci.md");
    let script = guide.split_once("```bash\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let place = place("slurm");
    for task in ["0", "1"] {
        let output = Command::new("bash")
            .args(["-c", script])
            .current_dir(&place)
            .env("PROGRAM", path("echo"))
            .env("BUDGET", "1s")
            .env("SLURM_ARRAY_JOB_ID", "4711")
            .env("SLURM_ARRAY_TASK_ID", task)
            .envs([("SLURM_ARRAY_TASK_MIN", "0"), ("SLURM_ARRAY_TASK_MAX", "1")])
            .envs([("SLURM_ARRAY_TASK_COUNT", "2"), ("SLURM_CPUS_PER_TASK", "1")])
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("shard {task}/2, seeds from 471100000000{task}, each 2")), "{said}");
    }
    let files = ["0", "1"].map(|task| place.join(format!("reports-4711/{task}.jsonl")));
    let sum = output("echo", &["report", files[0].to_str().unwrap(), files[1].to_str().unwrap()]);
    assert!(text(&sum.stdout).starts_with("2 hunts, "), "{}", text(&sum.stdout));
    std::fs::remove_dir_all(place).unwrap();
}

#[test]
fn a_budget_ends_a_hunt() {
    let output = output("echo", &["hunt", "--budget", "1s"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(" seeds, ") && said.contains("passed"), "{said}");
}

#[test]
fn a_bug_is_explained_and_its_record_repeats_it() {
    let place = place("explain");
    let out = place.to_str().unwrap();
    let found = text(&output("echo", &["hunt", "--seeds", "300", "--bug", "short-write"]).stdout);
    let command =
        found.lines().find_map(|line| line.strip_prefix("the reason:  ")).expect("explain is offered");
    let seed = command.split("--seed ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let explain = ["explain", "--seed", seed, "--bug", "short-write", "--patience", "4s", "--out", out];
    let explained = output("echo", &explain);
    let said = text(&explained.stdout);
    assert_eq!(explained.status.code(), Some(1), "{said}");
    for wanted in
        [" that matter (", "the choices that matter, of ", "random futures fail", ".html", ".pcapng"]
    {
        assert!(said.contains(wanted), "{wanted} is missing in\n{said}");
    }
    let record = said.split("--record ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let replayed = output("echo", &["replay", "--record", record, "--bug", "short-write"]);
    let said = text(&replayed.stdout);
    assert_eq!(replayed.status.code(), Some(1), "{said}");
    let (fitted, of) = said.strip_prefix("replayed ").and_then(|rest| rest.split_once(" of ")).unwrap();
    assert_eq!(fitted, of.split(' ').next().unwrap(), "{said}");
    std::fs::remove_dir_all(place).unwrap();
}
