//! Random sequences of calls on files: a few names of files and directories, opened, read, written, cut, moved and removed in
//! any order. Names are few, so that a file often is what another descriptor has open.

use machinarium::kernel::{Access, OpenFlags};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::scene::{Name, Scene, Tally};
use crate::sequence::shorten;
use crate::stage::{self, Difference};

/// How many calls are drawn for one sequence.
const LENGTH: usize = 30;

const PATHS: [&str; 18] = [
    "ten",
    "new",
    "empty",
    "full",
    "full/file",
    "empty/x",
    "full/new",
    "new",
    "ten",
    "full/..",
    "./new",
    "new/",
    "empty/",
    "ten/x",
    "empty/x/y",
    "full/./file",
    ".",
    "no/x",
];

/// One call. Descriptors are numbers modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open { path: &'static str, flags: OpenFlags },
    Pread { fd: usize, len: usize, offset: u64 },
    Pwrite { fd: usize, len: usize, offset: u64 },
    Read { fd: usize, len: usize },
    Write { fd: usize, len: usize },
    Truncate { fd: usize, len: u64 },
    Sync { fd: usize, data: bool },
    Stat { fd: usize },
    Close { fd: usize },
    Rename { from: &'static str, to: &'static str },
    Unlink { path: &'static str },
}

/// Plays the sequence of that seed; a difference is answered as a text with the shortest sequence that has one.
pub(crate) fn check(seed: u64) -> Result<Tally, String> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let steps: Vec<Step> = (0..LENGTH).map(|_| step(&mut chance)).collect();
    play(&steps).map_err(|difference| {
        let (steps, difference) = shorten(steps, difference, play);
        format!("files {seed}, shortened to {} steps:\n{}", steps.len(), difference.report())
    })
}

fn play(steps: &[Step]) -> Result<Tally, Difference> {
    let steps = steps.to_vec();
    stage::play(move |scene| steps.iter().for_each(|step| run(scene, *step)))
}

fn run(scene: &mut Scene, step: Step) {
    let count = scene.count();
    let at = |number: usize| Name(number % count.max(1));
    match step {
        Step::Open { path, flags } => _ = scene.openat(path, flags),
        Step::Pread { fd, len, offset } => scene.pread(at(fd), len, offset),
        Step::Pwrite { fd, len, offset } => scene.pwrite(at(fd), len, offset),
        Step::Read { fd, len } => scene.read(at(fd), len),
        Step::Write { fd, len } => scene.write(at(fd), &b"written one after the other"[..len]),
        Step::Truncate { fd, len } => scene.ftruncate(at(fd), len),
        Step::Sync { fd, data: true } => scene.fdatasync(at(fd)),
        Step::Sync { fd, data: false } => scene.fsync(at(fd)),
        Step::Stat { fd } => scene.fstat(at(fd)),
        Step::Close { fd } => scene.close(at(fd)),
        Step::Rename { from, to } => scene.rename(from, to),
        Step::Unlink { path } => scene.unlink_file(path),
    }
}

fn step(chance: &mut ChaCha8Rng) -> Step {
    let mut below = |n: usize| chance.next_u32() as usize % n;
    let (kind, fd, path, other) =
        (below(20), below(40), PATHS[below(PATHS.len())], PATHS[below(PATHS.len())]);
    let (len, offset) = ([0, 1, 9, 27, 600][below(5)], [0, 3, 500, 511, 512, 1_030, 9_000][below(7)]);
    match kind {
        0..6 => {
            let access = [Access::Read, Access::Write, Access::ReadWrite, Access::ReadWrite][below(4)];
            let (create, directory) = (below(2) == 0, below(8) == 0);
            let flags =
                OpenFlags { access, create, exclusive: below(5) == 0, truncate: below(5) == 0, directory };
            Step::Open { path, flags }
        }
        6 | 7 => Step::Pread { fd, len, offset },
        8 | 9 => Step::Pwrite { fd, len, offset },
        10 => Step::Read { fd, len },
        11 => Step::Write { fd, len: len.min(27) },
        12 => Step::Truncate { fd, len: offset },
        13 => Step::Sync { fd, data: below(2) == 0 },
        14 => Step::Stat { fd },
        15 => Step::Close { fd },
        16 | 17 => Step::Rename { from: path, to: other },
        _ => Step::Unlink { path },
    }
}
