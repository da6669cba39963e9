//! Whether the simulated kernel answers what Linux answers: the same calls on both, transcript against transcript.
//! README.md says what is compared, and what was seen.

mod body;
mod disk;
mod file_sequence;
#[allow(unsafe_code)] // two system calls that the kernel trait has not
mod limit;
mod place;
mod race;
mod scene;
mod seen;
mod sequence;
mod stage;

use scene::Tally;

/// Which random sequences: `MACHINARIUM_SEQUENCES` says how many, `MACHINARIUM_SEED` names one.
fn sequences() -> std::ops::Range<u64> {
    let number = |name| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
    };
    match number("MACHINARIUM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MACHINARIUM_SEQUENCES").unwrap_or(2_000),
    }
}

fn add(tally: &mut Tally, other: Tally) {
    for (answer, count) in other {
        *tally.entry(answer).or_default() += count;
    }
}

#[test]
fn random_sequences_answer_as_on_linux() {
    check_sequences(sequences(), sequence::check);
}

#[test]
fn random_sequences_on_files_answer_as_on_linux() {
    check_sequences(sequences(), file_sequence::check);
}

/// Fewer, for each is explained by one of many orders.
#[test]
fn random_races_are_answered_as_if_the_calls_had_an_order() {
    let seeds = sequences();
    check_sequences(seeds.start..seeds.start + (seeds.end - seeds.start).div_ceil(4), race::check);
}

fn check_sequences(seeds: std::ops::Range<u64>, check: fn(u64) -> Result<Tally, String>) {
    let (mut tally, mut different) = (Tally::new(), Vec::new());
    for seed in seeds {
        match check(seed) {
            Ok(answers) => add(&mut tally, answers),
            Err(text) => different.push(text),
        }
        if different.len() == 5 {
            break;
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    stage::alone(|| seen::check(&tally));
}

/// Each body is a test of its own too; here it is what Linux answers to all of them that counts.
#[test]
fn the_readme_shows_what_linux_answers() {
    let mut tally = Tally::new();
    for (name, body) in body::ALL {
        let played = stage::play(*body);
        add(&mut tally, played.unwrap_or_else(|difference| panic!("{name}\n{}", difference.report())));
    }
    stage::alone(|| seen::check(&tally));
}
