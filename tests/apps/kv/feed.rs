//! Subscribers and a publisher of the hunt: numbers are published in their order, and each subscription must have them so.
//!
//! While a subscription lasts, the numbers that the server has acknowledged come in their order, and none is left out: of a
//! number whose answer never came, nobody knows whether it comes, and when. A wrong number panics, which fails the world.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use machinarium::{sleep, timeout};

use crate::client::{Answer, Client};
use crate::common::init::keep_starting;
use crate::common::random::Random;
use crate::wire::Wire;
use crate::workload::Task;

/// What all know: the numbers of which the server said that they were published, and how many have been seen.
#[derive(Clone, Default)]
#[allow(clippy::disallowed_types, reason = "locked for a look, never across a call")]
pub(crate) struct Published(Arc<std::sync::Mutex<Known>>);

#[derive(Default)]
struct Known {
    acknowledged: BTreeSet<u64>,
    /// The last number that was sent.
    sent: u64,
    seen: usize,
}

impl Published {
    fn with<R>(&self, f: impl FnOnce(&mut Known) -> R) -> R {
        f(&mut self.0.lock().expect("nobody panics while it looks"))
    }

    /// Whether a subscriber has seen so many.
    pub(crate) fn seen(&self, least: usize) -> bool {
        self.with(|known| known.seen >= least)
    }
}

fn forever(
    session: impl Fn(&mut Random) -> io::Result<()>,
    task: &Task,
    enough: impl Fn() -> bool,
) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            let mut random = Random(task.seed);
            while !enough() {
                // How it ended is of no interest.
                let _ = session(&mut random);
                sleep(Duration::from_millis(random.below(100) as u64))?;
            }
            Ok(())
        })
    })
}

/// The main function of the publisher's host: until a subscriber has seen `enough`.
pub(crate) fn publisher(task: &Task, published: &Published, enough: usize) -> io::Result<()> {
    // It goes on where its clock stands: a host that starts again does not repeat a number.
    let session = |random: &mut Random| {
        let mut client = connect(task)?;
        for _ in 0..1 + random.below(30) {
            let number = machinarium::now().as_nanos();
            published.with(|known| known.sent = number);
            let text = number.to_string();
            let answer = timeout(PATIENCE, || client.call(&[b"PUBLISH", b"news", text.as_bytes()]))?;
            match answer {
                Answer::Integer(0..) => {}
                // Its server ends in the middle of it.
                Answer::Error(text) if text.starts_with("ERR not published: ") => return Ok(()),
                other => panic!("PUBLISH was answered {other:?}"),
            }
            published.with(|known| known.acknowledged.insert(number));
            sleep(Duration::from_millis(1 + random.below(20) as u64))?;
        }
        Ok(())
    };
    forever(session, task, || published.seen(enough))
}

/// The main function of a subscriber's host: until `enough` have been seen.
pub(crate) fn subscriber(task: &Task, published: &Published, enough: usize) -> io::Result<()> {
    let session = |random: &mut Random| {
        let mut client = connect(task)?;
        let first = timeout(PATIENCE, || client.call(&[b"SUBSCRIBE", b"news"]))?;
        let expected =
            [Answer::Bulk(b"subscribe".to_vec()), Answer::Bulk(b"news".to_vec()), Answer::Integer(1)];
        assert_eq!(first, Answer::Array(expected.to_vec()));
        // What was sent before may have been published before, or, given up by its publisher, come as late as it likes.
        let floor = published.with(|known| known.sent);
        let mut last = None;
        for _ in 0..5 + random.below(40) {
            let number = number(&timeout(PATIENCE, || client.receive())?);
            match last {
                Some(last) if number <= last => {
                    assert_ne!(number, last, "it came twice");
                    // The publisher gave it up and went on; its old connection was served after the new one.
                    let certain = published.with(|known| known.acknowledged.contains(&number));
                    assert!(!certain, "{number} came after {last}");
                }
                Some(last) => {
                    let after = last.max(floor) + 1;
                    let missed = published
                        .with(|known| known.acknowledged.range(after.min(number)..number).next().copied());
                    assert_eq!(missed, None, "between {last} and {number}");
                }
                None => {}
            }
            last = last.max(Some(number));
            published.with(|known| known.seen += 1);
            if random.once_in(10) {
                sleep(Duration::from_millis(random.below(200) as u64))?;
            }
        }
        Ok(())
    };
    forever(session, task, || published.seen(enough))
}

/// For an answer, or the next message.
const PATIENCE: Duration = Duration::from_secs(1);

fn connect(task: &Task) -> io::Result<Client<Box<dyn Wire>>> {
    Ok(Client::new(timeout(PATIENCE, || task.connect())?))
}

fn number(message: &Answer) -> u64 {
    let Answer::Array(parts) = message else { panic!("{message:?} is no message") };
    let [Answer::Bulk(kind), Answer::Bulk(_), Answer::Bulk(text)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(kind, b"message");
    String::from_utf8_lossy(text).parse().expect("a number was published")
}
