//! Files: what is written is read, whole; what is asked for wrongly is refused; who leaves has done nothing that had not begun.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::both;
use machinarium::file::{File, remove_file, rename, sync_directory};
use machinarium::sync::Event;
use machinarium::{Builder, Tuning, blocking, cancelled, machine, spawn, timeout};

/// A path of its own for each test.
fn path(name: &str) -> String {
    format!("/tmp/machinarium-{}-{name}", std::process::id())
}

fn in_a_machine(tuning: Tuning, body: impl FnOnce() -> io::Result<()>) {
    Builder::new().tuning(tuning).run(body).unwrap();
}

fn read_write() -> machinarium::file::OpenOptions {
    File::options().read(true).write(true)
}

/// All bytes of a file.
fn contents(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[test]
fn what_is_written_is_read_in_whatever_pieces() {
    both(|| {
        for file_chunk in [0, 3, 1 << 20] {
            in_a_machine(Tuning { file_chunk, ..Tuning::default() }, || {
                let path = path("pieces");
                let file = read_write().create(true).truncate(true).open(&path)?;
                let text: Vec<u8> = (0..40).collect();
                file.write_all_at(&text, 5)?;
                assert_eq!(file.len()?, 45);
                let mut all = [9; 45];
                file.read_exact_at(&mut all, 0)?;
                assert_eq!((&all[..5], &all[5..]), (&[0; 5][..], &text[..]));
                let mut part = [0; 10];
                let count = file.read_at(&mut part, 43)?;
                assert!((1..=2).contains(&count) && part[..count] == text[38..38 + count], "{count}");
                assert_eq!(file.read_at(&mut part, 45)?, 0, "the end");
                assert_eq!(file.read_at(&mut [], 0)?, 0);
                let short = file.read_exact_at(&mut part, 40).unwrap_err();
                assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
                let count = file.write_at(b"xyz", 1)?;
                assert!((1..=3).contains(&count), "{count}");
                assert_eq!(&contents(&file)?[..1 + count], &b"\0xyz"[..1 + count]);
                file.set_len(2)?;
                file.set_len(4)?;
                assert_eq!(contents(&file)?, b"\0x\0\0");
                remove_file(&path)
            });
        }
    });
}

#[test]
fn files_are_made_found_renamed_and_removed() {
    both(|| {
        in_a_machine(Tuning::default(), || {
            let (old, new) = (path("old"), path("new"));
            assert_eq!(File::open(&old).unwrap_err().kind(), ErrorKind::NotFound);
            let file = File::create(&old)?;
            file.write_all_at(b"contents", 0)?;
            file.sync_data()?;
            let metadata = file.metadata()?;
            assert!(metadata.is_file() && !metadata.is_dir() && metadata.len() == 8 && !metadata.is_empty());
            assert!(file.read_at(&mut [0], 0).is_err(), "it is open for writing");
            assert!(File::open(&old)?.write_at(b"x", 0).is_err(), "it is open for reading");
            let again = read_write().create_new(true).open(&old);
            assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
            File::create(&new)?.write_all_at(b"is replaced", 0)?;
            rename(&old, &new)?;
            sync_directory("/tmp")?;
            assert_eq!(contents(&File::open(&new)?)?, b"contents");
            assert_eq!(rename(&old, &new).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(File::create(&new)?.len()?, 0, "it was made empty");
            remove_file(&new)?;
            assert_eq!(remove_file(&new).unwrap_err().kind(), ErrorKind::NotFound);
            assert!(sync_directory(&new).is_err());
            // Its last user still has it.
            file.write_all_at(b"C", 0)?;
            file.sync_all()
        });
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    both(|| {
        let outside = File::open("/tmp/x").unwrap_err();
        assert!(outside.to_string().contains("no machine"), "{outside}");
        in_a_machine(Tuning::default(), || {
            let nothing = File::options();
            let empty = File::options().read(true).truncate(true);
            let made = File::options().read(true).create(true);
            for options in [nothing, empty, made, made.create(false).create_new(true)] {
                assert_eq!(options.open("/tmp/x").unwrap_err().kind(), ErrorKind::InvalidInput);
            }
            assert_eq!(File::open("a\0b").unwrap_err().kind(), ErrorKind::InvalidInput);
            assert_eq!(rename("a", "b\0").unwrap_err().kind(), ErrorKind::InvalidInput);
            let path = path("far");
            let file = read_write().create(true).open(&path)?;
            assert!(file.write_all_at(b"x", u64::MAX).is_err(), "no file is that long");
            assert!(file.read_at(&mut [0], u64::MAX).is_err());
            remove_file(&path)
        });
    });
}

#[test]
fn machines_share_a_file() {
    both(|| {
        in_a_machine(Tuning::default(), || {
            let path = path("shared");
            let file = read_write().create(true).truncate(true).open(&path)?;
            let writers = (0..3u8).map(|number| {
                let file = file.clone();
                machine::spawn("writer", move || file.write_all_at(&[number; 4], 4 * u64::from(number)))
            });
            let writers: Vec<_> = writers.collect::<Result<_, _>>()?;
            for writer in writers {
                writer.join()??;
            }
            assert_eq!(contents(&file)?, [[0; 4], [1; 4], [2; 4]].concat());
            remove_file(&path)
        });
    });
}

#[test]
fn a_call_that_had_not_begun_is_not_made_for_who_has_left() {
    both(|| {
        in_a_machine(Tuning { pool_threads: 1, ..Tuning::default() }, || {
            let path = path("left");
            let file = read_write().create(true).truncate(true).open(&path)?;
            let (inside, gate) = (Event::new(), Event::new());
            let (entered, opened) = (inside.clone(), gate.clone());
            let holds = spawn(move || {
                blocking(move || {
                    entered.set();
                    opened.wait()
                })
            });
            inside.wait()?;
            let late = timeout(Duration::from_millis(1), || file.write_all_at(b"late", 0)).unwrap_err();
            assert_eq!((late.written, late.source.kind()), (0, ErrorKind::TimedOut));
            let theirs = file.clone();
            let writer = spawn(move || theirs.write_at(b"cancelled", 0));
            machinarium::yield_now();
            writer.cancel("on purpose")?;
            assert_eq!(cancelled(&writer.join()?.unwrap_err()).unwrap().cause(), "on purpose");
            gate.set();
            holds.join()?.unwrap().unwrap();
            assert_eq!(file.len()?, 0);
            remove_file(&path)
        });
    });
}
