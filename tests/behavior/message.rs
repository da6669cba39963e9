//! Messages: what a builder writes, whose memory it lies in, and where that goes when the last of them is dropped.

use std::io;
use std::time::Duration;

use crate::{both, on_some};
use machinarium::inspect::{self, MessageStatistics};
use machinarium::message::{Buf, Bytes};
use machinarium::sync::channel;
use machinarium::{Builder, Message, MessageBuilder, Tuning, machine, run, sleep, spawn};

const KIND: u32 = 'M' as u32;

fn in_a_machine(body: impl FnOnce() -> io::Result<()>) {
    run(body).unwrap();
}

/// With a pool of one size of buffers.
fn with_pool(size: usize, cache: usize, body: impl FnOnce() -> io::Result<()>) {
    let tuning = Tuning { message_sizes: (size, size), message_cache: cache, ..Tuning::default() };
    Builder::new().tuning(tuning).run(body).unwrap();
}

/// What this process's first machine has counted.
fn counted() -> MessageStatistics {
    let counted = inspect::statistics().unwrap().remove(0).messages;
    let in_use = counted.taken - counted.returned;
    assert_eq!(counted.allocated, counted.freed + counted.cached + in_use, "{counted:?}");
    counted
}

#[test]
fn a_builder_writes_what_it_is_told() {
    both(|| {
        in_a_machine(|| {
            let mut builder = MessageBuilder::new(1_u8);
            assert_eq!((builder.kind(), builder.capacity(), builder.len()), (1, 0, 0));
            builder.put_u8(1).put_u16(2).put_i32_le(-3).put_u64(4).put_f64(5.5).put_bytes(6, 3);
            builder.extend([7, 8]);
            builder.extend(&[9_u8]);
            io::Write::write_all(&mut builder, b"ten")?;
            fmt_number(&mut builder, 11);
            builder[0] = 100;
            builder.put_slice(b"cut off");
            builder.truncate(builder.len() - 7);
            builder.truncate(1000);
            builder.set_kind(KIND).put_slice(&[]);
            let message = builder.freeze();
            let shown = format!("{message:?}");
            assert!(shown.starts_with("Message { kind: 77, 34 bytes: \"d\\x00\\x02\\xfd"), "{shown}");
            assert!(shown.ends_with("..\" }"), "{shown}");
            let mut data = message.into_data();
            assert_eq!((data.get_u8(), data.get_u16(), data.get_i32_le()), (100, 2, -3));
            assert_eq!((data.get_u64(), data.get_f64()), (4, 5.5));
            assert_eq!(&data[..], b"\x06\x06\x06\x07\x08\x09ten11");
            Ok(())
        });
    });
}

fn fmt_number(builder: &mut MessageBuilder, number: u32) {
    std::fmt::Write::write_fmt(builder, format_args!("{number}")).unwrap();
}

#[test]
fn a_builder_grows_and_keeps_what_it_has() {
    both(|| {
        in_a_machine(|| {
            let mut builder = Message::builder(KIND);
            for number in 0..100_000_u32 {
                builder.put_u32(number);
            }
            builder.reserve(1);
            let mut data = builder.freeze().into_data();
            assert!((0..100_000).all(|number| data.get_u32() == number));
            // Twice as large each time, and what is left behind is kept for the next.
            let counted = counted();
            assert!((10..20).contains(&counted.taken), "{counted:?}");
            assert_eq!(counted.taken - counted.returned, 1);
            Ok(())
        });
    });
}

#[test]
fn nothing_of_an_earlier_message_is_seen_in_a_later_one() {
    both(|| {
        with_pool(64, 1000, || {
            drop(Message::copy(KIND, &[9; 64]));
            let mut builder = MessageBuilder::with_capacity(KIND, 64);
            assert!(builder.is_empty());
            builder.put_bytes(0, 20);
            builder.clear();
            builder.put_slice(b"new");
            assert_eq!(&builder[..], b"new");
            assert_eq!(&builder.freeze()[..], b"new");
            assert_eq!(counted().allocated, 1);
            Ok(())
        });
    });
}

#[test]
fn clones_and_parts_share_one_buffer_until_the_last_is_dropped() {
    both(|| {
        in_a_machine(|| {
            let message = Message::copy(KIND, b"one and other");
            let clone = message.clone();
            assert_eq!(clone, message);
            assert_eq!(clone.as_ptr(), message.as_ptr());
            let part: Bytes = message.data().slice(8..);
            assert_eq!(counted().taken, 1);
            drop((message, clone));
            assert_eq!((counted().returned, &part[..]), (0, &b"other"[..]));
            assert_eq!(counted().used_bytes, 128);
            drop(part);
            assert_eq!((counted().returned, counted().cached, counted().used_bytes), (1, 1, 0));
            drop(Message::copy(KIND, b"again"));
            assert_eq!((counted().taken, counted().allocated), (2, 1));
            Ok(())
        });
    });
}

#[test]
fn a_message_of_bytes_that_are_there_takes_no_buffer() {
    both(|| {
        in_a_machine(|| {
            let messages = [
                Message::new(KIND, b"bytes".as_slice()),
                Message::new('M', "bytes"),
                Message::new(KIND, b"bytes".to_vec()),
                Message::new(0_u32, "bytes".to_owned()).with_kind(KIND),
            ];
            assert!(messages.iter().all(|message| *message == messages[0]));
            assert_ne!(messages[0], messages[1].clone().with_kind('N'));
            assert_eq!(messages[0].kind_as::<char>(), Ok('M'));
            assert!(Message::copy(KIND, b"").is_empty() && Message::builder(KIND).freeze().is_empty());
            assert_eq!(counted(), MessageStatistics::default());
            Ok(())
        });
    });
}

#[test]
fn what_is_above_the_watermark_or_too_long_is_freed() {
    both(|| {
        with_pool(64, 200, || {
            let messages: Vec<_> = (0..5).map(|_| Message::copy(KIND, &[1; 50])).collect();
            drop(messages);
            assert_eq!((counted().cached, counted().cached_bytes, counted().freed), (3, 192, 2));
            drop(Message::copy(KIND, &[1; 65]));
            assert_eq!((counted().cached, counted().freed), (3, 3));
            Ok(())
        });
        with_pool(0, 0, || {
            drop(Message::copy(KIND, &[1; 1000]));
            assert_eq!((counted().taken, counted().freed), (1, 1));
            Ok(())
        });
    });
}

/// One machine makes messages, another drops them: of the first one's buffers as many are made as there are at once.
fn messages_to_another_machine(count: u64, bound: usize) -> io::Result<()> {
    let (sender, receiver) = channel::bounded::<Message>(bound);
    let other = machine::spawn("other", move || {
        receiver.iter().fold((0, 0), |(messages, bytes), message| {
            assert_eq!(message.kind(), KIND);
            (messages + 1, bytes + message.len() as u64)
        })
    })?;
    let mut bytes = 0;
    for number in 0..count {
        let length = 1 + number * 7 % 100;
        bytes += length;
        let mut message = MessageBuilder::with_capacity(KIND, 100);
        message.put_bytes(number as u8, length as usize);
        sender.send(message.freeze()).unwrap();
    }
    drop(sender);
    assert_eq!(other.join()?, (count, bytes));
    let counted = counted();
    assert_eq!((counted.taken, counted.returned, counted.used_bytes), (count, count, 0));
    // Those in the channel, and at each end the one that is on its way.
    assert!(counted.allocated <= bound as u64 + 2, "{counted:?}");
    Ok(())
}

#[test]
fn a_million_messages_to_another_machine_take_a_few_buffers() {
    in_a_machine(|| messages_to_another_machine(1_000_000, 100));
    on_some(20, 10, |_| in_a_machine(|| messages_to_another_machine(500, 5)));
}

#[test]
fn messages_go_back_and_forth_and_home() {
    both(|| {
        in_a_machine(|| {
            let (to, from_here) = channel::bounded::<Message>(3);
            let (back, from_there) = channel::bounded::<Message>(3);
            let echo = machine::spawn("echo", move || -> io::Result<()> {
                for question in from_here {
                    // Both the question and a message of this machine.
                    back.send(Message::copy(KIND, &question))
                        .map_err(|error| io::Error::other(error.to_string()))?;
                    back.send(question).map_err(|error| io::Error::other(error.to_string()))?;
                }
                Ok(())
            })?;
            for number in 0..50_u8 {
                to.send(Message::copy(KIND, &[number; 40])).unwrap();
                let (theirs, ours) = (from_there.recv().unwrap(), from_there.recv().unwrap());
                assert_eq!((&theirs, &theirs[..]), (&ours, &[number; 40][..]));
            }
            let all = inspect::statistics()?;
            for machine in &all {
                let messages = machine.messages;
                assert_eq!((messages.taken, messages.returned), (50, 50), "{}: {messages:?}", machine.name);
                assert!(messages.allocated <= 2, "{messages:?}");
            }
            assert_eq!(all.len(), 2);
            drop(to);
            echo.join()?
        });
    });
}

#[test]
fn a_message_outlives_its_machine_and_its_process() {
    both(|| {
        let outside = Message::copy(KIND, b"made by nobody");
        let kept = run(|| -> io::Result<_> {
            let other = machine::spawn("other", || Message::copy(KIND, b"of a machine that has ended"))?;
            let theirs = other.join()?;
            sleep(Duration::from_millis(1))?;
            assert_eq!(&theirs[..], b"of a machine that has ended");
            let clone = theirs.clone();
            spawn(move || drop(clone)).join()?;
            assert_eq!(counted(), MessageStatistics::default());
            Ok([theirs, Message::copy(KIND, b"of a process that has ended"), outside])
        });
        let mut kept = kept.unwrap().to_vec();
        assert_eq!(&kept[1][..], b"of a process that has ended");
        // Dropped by another process.
        let last = kept.pop();
        in_a_machine(|| {
            drop(last);
            drop(kept);
            assert_eq!(counted(), MessageStatistics::default());
            Ok(())
        });
    });
}

#[test]
fn a_message_is_dropped_by_a_thread_that_is_no_machine() {
    // On one kernel: a simulated world has no such threads.
    in_a_machine(|| {
        let messages: Vec<_> = (0..100).map(|number| Message::copy(KIND, &[number; 10])).collect();
        let thread = std::thread::Builder::new().spawn(move || {
            let own = Message::copy(KIND, b"plain memory");
            (messages.iter().map(|message| u32::from(message[9])).sum::<u32>(), own)
        })?;
        let (sum, own) = thread.join().unwrap();
        assert_eq!((sum, &own[..]), (99 * 50, &b"plain memory"[..]));
        let counted = counted();
        assert_eq!((counted.taken, counted.returned, counted.cached), (100, 100, 100));
        Ok(())
    });
}

#[test]
fn what_lies_in_a_channel_comes_home_with_its_end() {
    both(|| {
        in_a_machine(|| {
            let (sender, receiver) = channel::unbounded();
            (0..10).for_each(|_| sender.send(Message::copy(KIND, b"unread")).unwrap());
            // Thrown away on another machine, by the one who never looks.
            machine::spawn("other", move || drop(receiver))?.join()?;
            assert!(sender.send(Message::copy(KIND, b"refused")).is_err());
            assert_eq!((counted().taken, counted().returned), (11, 11));
            Ok(())
        });
    });
}
