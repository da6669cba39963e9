//! A pipeline on its way: the requests that arrived together, what each is waiting for, and in the end their replies.
//!
//! A request for a key of this machine runs at once. One for another machine's key is copied into the batch for that
//! machine, which is sent when all requests have been read; the batches run there at the same time. So requests to one key
//! run in their order, and those to keys of different machines in any: as if the client had sent them on its own from
//! several connections, which is all that several machines can promise.
//!
//! A plan holds replies, which share stored values, up to a weight; then it says that it is full and the connection writes
//! before it reads on.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use machinarium::machine::RemoteJoin;
use machinarium::timeout;

use crate::bug::Undo;
use crate::command::{self, Merge, Place, Run, Session};
use crate::hub::acknowledgement;
use crate::reply::Reply;
use crate::resp::Arguments;
use crate::session;
use crate::shard::Shard;

/// When replies so heavy are waiting, they are written before more requests run.
const FULL: usize = 1 << 20;

/// See the head of the file.
pub(crate) struct Plan {
    shard: Rc<Shard>,
    /// One moment for all requests of the pipeline: when the first of them was there.
    now: Option<u64>,
    answers: Vec<Answer>,
    /// By machine.
    batches: Vec<Batch>,
    weight: usize,
    pub(crate) undo: Undo,
}

enum Answer {
    One(Part),
    Many(Merge, Vec<Part>),
}

enum Part {
    Ready(Reply),
    /// The next reply of that machine's batch.
    From(usize),
}

impl Plan {
    pub(crate) fn new(shard: Rc<Shard>) -> Plan {
        let batches = (0..shard.machines()).map(|_| Batch::default()).collect();
        let undo = Undo::new(shard.config.bug);
        Plan { shard, now: None, answers: Vec::new(), batches, weight: 0, undo }
    }

    /// Takes a request. A command that ends or changes the connection is returned for it to do.
    pub(crate) fn add(&mut self, arguments: Arguments<'_>) -> Option<Session> {
        let command = match command::find(arguments) {
            Ok(command) => command,
            Err(error) => {
                self.answer(error);
                return None;
            }
        };
        match command.place {
            Place::Session(end @ (Session::Quit | Session::Shutdown | Session::Subscribe)) => {
                return Some(end);
            }
            Place::Session(Session::Unsubscribe) => self.unsubscribe_from_nothing(arguments),
            Place::Session(Session::Publish) => {
                let count = self.shard.hub.publish(arguments.get(1), arguments.get(2));
                self.answer(match count {
                    Ok(count) => Reply::Integer(count as i64),
                    Err(error) => Reply::error(format!("ERR not published: {error}")),
                });
            }
            Place::Session(session) => self.answer(session::answer(session, arguments)),
            Place::Key(run) => {
                let part = self.run_key(run, arguments);
                self.push(Answer::One(part));
            }
            Place::Keys { run, step, merge } => {
                let parts = self.run_keys(run, step, arguments);
                self.push(Answer::Many(merge, parts));
            }
            Place::Every { run, merge } => {
                let none = Arguments::new(&[], &[]);
                let parts =
                    (0..self.shard.machines()).map(|machine| self.run_on(machine, run, none)).collect();
                self.push(Answer::Many(merge, parts));
            }
        }
        None
    }

    /// A connection that comes here subscribes to nothing.
    fn unsubscribe_from_nothing(&mut self, arguments: Arguments<'_>) {
        if arguments.len() == 1 {
            self.answer(acknowledgement(b"unsubscribe", None, 0));
        }
        for channel in arguments.iter().skip(1) {
            self.answer(acknowledgement(b"unsubscribe", Some(channel), 0));
        }
    }

    /// Answers a request without running anything.
    pub(crate) fn answer(&mut self, reply: Reply) {
        self.push(Answer::One(Part::Ready(reply)));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.weight >= FULL
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// What the replies hold until they are written.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Waits for what other machines do, and returns all replies in the order of their requests.
    ///
    /// An error says that a machine did not answer: its requests may or may not have run.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<Reply>> {
        self.shard.arm();
        let answers = std::mem::take(&mut self.answers);
        let mut arrived = self.exchange()?;
        let mut reply = |part: Part| match part {
            Part::Ready(reply) => reply,
            Part::From(machine) => arrived[machine].next().expect("a batch has a reply for each request"),
        };
        let replies = answers.into_iter().map(|answer| match answer {
            Answer::One(part) => reply(part),
            Answer::Many(merge, parts) => {
                let whole = merge.join(parts.into_iter().map(&mut reply).collect());
                if merge == Merge::Info { session::info(&self.shard, &whole) } else { whole }
            }
        });
        Ok(replies.collect())
    }

    /// Sends the batches, all before waiting for any.
    fn exchange(&mut self) -> io::Result<Vec<std::vec::IntoIter<Reply>>> {
        let mut joins: Vec<Option<RemoteJoin<Vec<Reply>>>> = Vec::new();
        for (machine, batch) in self.batches.iter_mut().enumerate() {
            let batch = std::mem::take(batch);
            let sent = (!batch.runs.is_empty()).then(|| self.shard.peer(machine).spawn(move || batch.run()));
            joins.push(sent.transpose()?);
        }
        timeout(self.shard.config.peer_timeout, || {
            let replies = joins.into_iter().map(|join| join.map_or(Ok(Vec::new()), RemoteJoin::join));
            replies.map(|replies| Ok(replies?.into_iter())).collect()
        })
    }

    fn push(&mut self, answer: Answer) {
        let own = size_of::<Answer>();
        self.weight += match &answer {
            Answer::One(part) => own + part.weight(),
            Answer::Many(_, parts) => parts.iter().fold(own, |sum, part| sum.saturating_add(part.weight())),
        };
        self.answers.push(answer);
    }

    fn run_key(&mut self, run: Run, arguments: Arguments<'_>) -> Part {
        let owner = self.shard.owner(arguments.get(1));
        self.run_on(owner, run, arguments)
    }

    /// Each group of arguments as a request of its own.
    fn run_keys(&mut self, run: Run, step: usize, arguments: Arguments<'_>) -> Vec<Part> {
        let groups = (1..arguments.len()).step_by(step);
        groups.map(|first| self.run_key(run, arguments.only(first, step))).collect()
    }

    fn run_on(&mut self, machine: usize, run: Run, arguments: Arguments<'_>) -> Part {
        if machine != self.shard.index() {
            self.batches[machine].push(run, arguments);
            return Part::From(machine);
        }
        let now = *self.now.get_or_insert_with(|| machinarium::now().as_nanos());
        self.undo.before(&self.shard, arguments, now);
        Part::Ready(self.shard.run(run, arguments, now))
    }
}

impl Part {
    fn weight(&self) -> usize {
        match self {
            Part::Ready(reply) => reply.weight(),
            Part::From(_) => size_of::<Part>(),
        }
    }
}

/// Requests for another machine, copied to go there.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    /// Each with the end of its ranges.
    runs: Vec<(Run, usize)>,
}

impl Batch {
    fn push(&mut self, run: Run, arguments: Arguments<'_>) {
        // Commands do not look at their names.
        self.ranges.extend((!arguments.is_empty()).then_some(0..0));
        for argument in arguments.iter().skip(1) {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(argument);
            self.ranges.push(start..self.bytes.len());
        }
        self.runs.push((run, self.ranges.len()));
    }

    /// Runs them there.
    fn run(self) -> Vec<Reply> {
        let shard = Shard::here();
        let now = machinarium::now().as_nanos();
        let mut start = 0;
        let replies = self.runs.iter().map(|&(run, end)| {
            let ranges = &self.ranges[start..end];
            start = end;
            shard.run(run, Arguments::new(&self.bytes, ranges), now)
        });
        let replies = replies.collect();
        shard.arm();
        replies
    }
}
