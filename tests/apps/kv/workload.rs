//! A client of the hunt: does what many clients do, badly connected and in a hurry, and checks every answer.
//!
//! It comes and goes for a number of sessions, each one connection with a few pipelines; in the end it comes back until it
//! could read all it ever wrote. A wrong answer panics, which fails the world. An error of the network is no wrong answer:
//! what was not answered is in doubt, and the session is over.
//!
//! What all clients know together, the counter that each of them increments, is in `Tally`; what they do to the keys that all of
//! them write is in `together.rs`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::tls::ClientConfig;
use machinarium::{sleep, timeout};

use crate::certificates::PEM;
use crate::client::{Answer, Client};
use crate::common::init::keep_starting;
use crate::common::random::Random;
use crate::model::{Model, Request, Span, Wrong};
use crate::together::{self, Call, Pending, Together};
use crate::wire::Wire;

/// The key that all clients increment.
const SHARED: &str = "shared";

/// How many keys of its own a client uses at a time.
const KEYS: usize = 4;

/// What a client is to do.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) server: SocketAddr,
    /// Whether it talks TLS.
    pub(crate) tls: bool,
    /// Its number among the clients.
    pub(crate) number: usize,
    pub(crate) seed: u64,
    pub(crate) sessions: usize,
    pub(crate) tally: Tally,
    pub(crate) together: Together,
}

impl Task {
    pub(crate) fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect(self.server)?;
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
        Ok(Box::new(config.connect(stream, "localhost")?))
    }
}

/// The main function of a client's host.
pub(crate) fn client(task: &Task) -> io::Result<()> {
    keep_starting(|begun| {
        machinarium::run(|| {
            begun.set(true);
            Worker::new(task).run();
            Ok(())
        })
    })
}

struct Worker<'a> {
    task: &'a Task,
    random: Random,
    model: Model,
    /// The `run_id` of the server that the model is about.
    server_run: Option<String>,
    keys: Vec<String>,
    /// Numbers keys and values, so that none occurs twice.
    fresh: usize,
}

/// A request as sent, which may be several for the model.
struct Step {
    words: Vec<String>,
    requests: Vec<Request>,
    /// An increment of the shared counter, and what it was at least when this was sent.
    shared: Option<i64>,
    /// What it does to a key that all clients write.
    together: Option<Call>,
}

impl<'a> Worker<'a> {
    fn new(task: &'a Task) -> Worker<'a> {
        let random = Random(task.seed);
        Worker { task, random, model: Model::default(), server_run: None, keys: Vec::new(), fresh: 0 }
    }

    fn run(&mut self) {
        for _ in 0..self.task.sessions {
            // How it ended is of no interest: the model knows what is in doubt.
            let _ = self.session();
            self.pause(200);
        }
        while self.last_session().is_err() {
            self.pause(200);
        }
    }

    fn pause(&mut self, milliseconds: usize) {
        let pause = Duration::from_millis(self.random.below(milliseconds) as u64);
        sleep(pause).expect("nobody cancels a client");
    }

    fn session(&mut self) -> io::Result<()> {
        let mut client = self.connect()?;
        for _ in 0..1 + self.random.below(6) {
            let pipeline = if self.random.once_in(4) { 1 + self.random.below(12) } else { 1 };
            let steps = (0..pipeline).map(|_| self.step()).collect();
            self.exchange(&mut client, steps)?;
            if self.random.once_in(3) {
                self.pause(50);
            }
        }
        Ok(())
    }

    /// Reads all that was ever written.
    fn last_session(&mut self) -> io::Result<()> {
        let mut client = self.connect()?;
        let own = self.model.requests_for_all().into_iter().map(Step::one);
        let shared =
            self.task.together.keys(&self.server_run()).into_iter().map(Call::Get).map(Step::together);
        let steps: Vec<Step> = own.chain(shared).collect();
        self.exchange(&mut client, steps)?;
        let (run, least) = (self.server_run(), self.task.tally.acknowledged(&self.server_run()));
        let answer = timeout(self.patience(), || client.call(&[b"GET", SHARED.as_bytes()]))?;
        let count = match &answer {
            Answer::Nil => 0,
            Answer::Bulk(text) => String::from_utf8_lossy(text).parse().expect("a counter is a number"),
            other => panic!("GET of the counter was answered {other:?}"),
        };
        let most = self.task.tally.sent(&run);
        assert!(least <= count && count <= most, "the counter is {count}, not from {least} to {most}");
        Ok(())
    }

    /// A connection to a server whose run is known.
    fn connect(&mut self) -> io::Result<Client<Box<dyn Wire>>> {
        let patience = self.patience();
        let (client, info) = timeout(patience, || {
            let mut client = Client::new(self.task.connect()?);
            let info = client.call(&[b"INFO"])?;
            io::Result::Ok((client, info))
        })?;
        let Answer::Bulk(info) = info else { panic!("INFO was answered {info:?}") };
        let info = String::from_utf8(info).expect("INFO is text");
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).expect("INFO names the run");
        if self.server_run.as_deref() != Some(run) {
            self.server_run = Some(run.to_owned());
            self.task.tally.met(run);
            self.model = Model::default();
            self.keys = (0..KEYS).map(|_| self.fresh_key()).collect();
        }
        Ok(client)
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis(50 << self.random.below(6))
    }

    fn server_run(&self) -> String {
        self.server_run.clone().expect("a connected client knows the run")
    }

    /// Sends the steps together and checks what is answered. After an error, what was not answered is in doubt.
    fn exchange(&mut self, client: &mut Client<Box<dyn Wire>>, steps: Vec<Step>) -> io::Result<()> {
        let patience = self.patience();
        let sent = machinarium::now().as_nanos();
        let name = format!("client {}", self.task.number);
        let writer = self.task.together.client(&self.server_run(), &name);
        let mut written: Vec<Option<Pending>> =
            steps.iter().map(|step| step.together.clone().map(|call| writer.begin(call))).collect();
        let words: Vec<Vec<&[u8]>> =
            steps.iter().map(|step| step.words.iter().map(String::as_bytes).collect()).collect();
        let commands: Vec<&[&[u8]]> = words.iter().map(Vec::as_slice).collect();
        let mut result = timeout(patience, || client.send(&commands));
        for (step, written) in steps.iter().zip(&mut written) {
            let answer = result.and_then(|()| timeout(patience, || client.receive()));
            result = match answer {
                Ok(answer) => {
                    let received = machinarium::now().as_nanos();
                    let checked = self.answered(step, &answer, Span { sent, received }, written.take());
                    checked
                        .unwrap_or_else(|wrong| panic!("client {}: {}", self.task.number, squeeze(&wrong)));
                    Ok(())
                }
                Err(error) => {
                    step.requests.iter().for_each(|request| self.model.in_doubt(request, sent));
                    if let Some(pending) = written.take() {
                        self.task.together.in_doubt(&self.server_run(), pending);
                    }
                    Err(error)
                }
            };
            // A client that reads slowly, so that the server's replies fill their buffers.
            if result.is_ok() && self.random.once_in(60) {
                self.pause(400);
            }
        }
        result
    }

    fn answered(
        &mut self,
        step: &Step,
        answer: &Answer,
        span: Span,
        written: Option<Pending>,
    ) -> Result<(), Wrong> {
        if let Some((call, pending)) = step.together.as_ref().zip(written) {
            return together::answered(pending, call, answer);
        }
        if let Some(least) = step.shared {
            let Answer::Integer(count) = *answer else { return Err(format!("INCR was answered {answer:?}")) };
            return self.task.tally.counted(&self.server_run(), least, count);
        }
        let parts = match (answer, &step.requests[..]) {
            (_, [_]) => vec![answer.clone()],
            (Answer::Array(parts), requests) if parts.len() == requests.len() => parts.clone(),
            (Answer::Simple(_), requests) => vec![answer.clone(); requests.len()],
            _ => return Err(format!("{:?} was answered {answer:?}", step.words)),
        };
        let mut both = step.requests.iter().zip(&parts);
        both.try_for_each(|(request, part)| self.model.answered(request, part, span))
    }

    fn step(&mut self) -> Step {
        match self.random.below(18) {
            0..=3 => self.write(),
            4..=7 => Step::one(Request::Get(self.any_key())),
            8 => self.several("MGET", |worker| Request::Get(worker.any_key())),
            9 => self.several("MSET", |worker| Request::Set(worker.certain_key(), worker.value())),
            10 => Step::one(Request::Exists(self.any_key())),
            11 | 12 => {
                let run = self.server_run();
                self.task.tally.sends(&run);
                let least = self.task.tally.acknowledged(&run);
                Step {
                    words: ["INCR", SHARED].map(str::to_owned).to_vec(),
                    requests: Vec::new(),
                    shared: Some(least),
                    together: None,
                }
            }
            13 => {
                let (key, value) = (self.fresh_key(), self.value());
                let life = Duration::from_millis(1 + self.random.below(500) as u64);
                Step::one(Request::SetTimed(key, value, life.as_nanos() as u64))
            }
            14 | 15 => self.together(),
            _ => {
                let known = self.model.requests_for_all();
                match known.len() {
                    0 => Step::one(Request::Get(self.any_key())),
                    count => Step::one(known[self.random.below(count)].clone()),
                }
            }
        }
    }

    fn write(&mut self) -> Step {
        let key = self.certain_key();
        Step::one(match self.random.below(5) {
            0 => Request::Del(key),
            1 => Request::SetNew(key, self.value()),
            _ => Request::Set(key, self.value()),
        })
    }

    /// Something with a key that all clients write.
    fn together(&mut self) -> Step {
        let key = self.task.together.key(&self.server_run(), self.random.below(10));
        self.fresh += 1;
        let value = format!("{}:{}", self.task.number, self.fresh);
        Step::together(match self.random.below(6) {
            0 => Call::Remove(key),
            1 => Call::PutNew(key, value),
            2 | 3 => Call::Put(key, value),
            _ => Call::Get(key),
        })
    }

    fn several(&mut self, name: &str, mut request: impl FnMut(&mut Self) -> Request) -> Step {
        let requests: Vec<Request> = (0..2 + self.random.below(3)).map(|_| request(self)).collect();
        let words = requests.iter().flat_map(|request| request.words().into_iter().skip(1));
        let words = std::iter::once(name.to_owned()).chain(words).collect();
        Step { words, requests, shared: None, together: None }
    }

    fn any_key(&mut self) -> String {
        self.keys[self.random.below(KEYS)].clone()
    }

    /// A key that may be written: one that is in doubt is given up for a new one.
    fn certain_key(&mut self) -> String {
        let slot = self.random.below(KEYS);
        if !self.model.is_certain(&self.keys[slot]) {
            self.keys[slot] = self.fresh_key();
        }
        self.keys[slot].clone()
    }

    fn fresh_key(&mut self) -> String {
        self.fresh += 1;
        format!("client{}:key{}", self.task.number, self.fresh)
    }

    /// A value that occurs once. Now and then a long one.
    fn value(&mut self) -> String {
        self.fresh += 1;
        let padding = if self.random.once_in(20) { self.random.below(20_000) } else { self.random.below(20) };
        format!("{}:{}", self.fresh, "x".repeat(padding))
    }
}

impl Step {
    fn one(request: Request) -> Step {
        Step { words: request.words(), requests: vec![request], shared: None, together: None }
    }

    fn together(call: Call) -> Step {
        Step { words: together::words(&call), requests: Vec::new(), shared: None, together: Some(call) }
    }
}

/// A message without the padding of long values.
fn squeeze(text: &str) -> String {
    let mut out = String::new();
    let mut run = 0;
    for character in text.chars() {
        run = if character == 'x' { run + 1 } else { 0 };
        match run {
            0..=3 => out.push(character),
            4 => out.push_str("..."),
            _ => {}
        }
    }
    out
}

/// What all clients know of the shared counter, by run of the server. The clients are simulated hosts, but the tally is
/// the test's own memory: what is in it happened, in the order in which it got there.
#[derive(Clone, Default)]
#[allow(clippy::disallowed_types, reason = "locked for a look, never across a call")]
pub(crate) struct Tally(Arc<std::sync::Mutex<BTreeMap<String, Counter>>>);

#[derive(Default)]
struct Counter {
    /// Increments sent, answered or not.
    sent: i64,
    /// The highest count that was acknowledged.
    acknowledged: i64,
    counts: std::collections::BTreeSet<i64>,
}

impl Tally {
    fn with<R>(&self, run: &str, f: impl FnOnce(&mut Counter) -> R) -> R {
        let mut runs = self.0.lock().expect("no client panics while it looks");
        f(runs.entry(run.to_owned()).or_default())
    }

    fn met(&self, run: &str) {
        self.with(run, |_| ());
    }

    fn sends(&self, run: &str) {
        self.with(run, |counter| counter.sent += 1);
    }

    fn sent(&self, run: &str) -> i64 {
        self.with(run, |counter| counter.sent)
    }

    fn acknowledged(&self, run: &str) -> i64 {
        self.with(run, |counter| counter.acknowledged)
    }

    /// `count` was the answer to an increment that was sent when `least` had been acknowledged to somebody.
    fn counted(&self, run: &str, least: i64, count: i64) -> Result<(), Wrong> {
        self.with(run, |counter| {
            if count <= least || count > counter.sent {
                return Err(format!("INCR gave {count}, not from {} to {}", least + 1, counter.sent));
            }
            if !counter.counts.insert(count) {
                return Err(format!("INCR gave {count} twice"));
            }
            counter.acknowledged = counter.acknowledged.max(count);
            Ok(())
        })
    }

    /// How many runs of the server the clients have met.
    pub(crate) fn runs(&self) -> usize {
        self.0.lock().expect("no client panics while it looks").len()
    }
}
