//! What a client of the hunt does in a session, and what it expects of each answer.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use machinarium::{sleep, spawn};

use super::talk::{Answer, Talk};
use crate::common::random::Random;
use crate::message::{put, put_query, put_text};

/// See the head of the file.
pub(crate) struct Steps {
    talk: Talk,
    pub(crate) random: Random,
    /// In a transaction pool: what it sets is not its own for longer than a transaction.
    is_shared: bool,
    /// What `work_mem` must be.
    memory: String,
    /// What `application_name` must be.
    application: String,
    /// The statements that it has prepared.
    prepared: BTreeSet<usize>,
}

/// How many statements there are to prepare.
const STATEMENTS: usize = 5;

impl Steps {
    pub(crate) fn new(talk: Talk, random: Random, is_shared: bool, memory: String) -> Steps {
        Steps { talk, random, is_shared, memory, application: String::new(), prepared: BTreeSet::new() }
    }

    /// One of them.
    pub(crate) fn step(&mut self) -> io::Result<()> {
        if self.random.once_in(4) {
            sleep(Duration::from_millis(self.random.below(50) as u64))?;
        }
        match self.random.below(16) {
            0 | 1 => self.rows(),
            2 | 3 => self.transact(),
            4..7 => self.prepare_and_execute(),
            7 | 8 => self.pipeline(),
            9 => self.copy_in(),
            10 => self.copy_out(),
            11 => self.settings(),
            12 | 13 => self.cancelled(),
            14 => self.leave_something(),
            _ if self.random.once_in(2) => self.leave_abruptly(),
            _ => self.fail(),
        }
    }

    /// The end of a session, mostly a polite one.
    pub(crate) fn end(self) -> io::Result<()> {
        let Steps { talk, mut random, .. } = self;
        if random.once_in(4) { Ok(()) } else { talk.end() }
    }

    /// A statement that nothing but an own cancel makes fail.
    fn ask(&mut self, statement: &str) -> io::Result<Answer> {
        let answer = self.talk.ask(statement)?;
        self.expect(&answer, &["57014"]);
        Ok(answer)
    }

    /// No error, but one of these; `57014` only if a cancel was asked for (`talk.rs`), and none in a transaction that has failed.
    fn expect(&self, answer: &Answer, errors: &[&str]) {
        let known = |code: &String| errors.contains(&code.as_str()) || code == "25P02";
        assert!(answer.error.as_ref().is_none_or(known), "{answer:?}");
    }

    fn rows(&mut self) -> io::Result<()> {
        let most = 1 << self.random.below(7);
        let count = self.random.below(most);
        let answer = self.ask(&format!("SELECT rows {count}"))?;
        assert!(answer.error.is_some() || answer.rows.len() == count, "{count} rows: {answer:?}");
        Ok(())
    }

    fn transact(&mut self) -> io::Result<()> {
        self.ask("BEGIN")?;
        for _ in 0..self.random.below(4) {
            match self.random.below(5) {
                0 => self.fail()?,
                1 => self.prepare_and_execute()?,
                2 => sleep(Duration::from_millis(self.random.below(30) as u64))?,
                3 => self.cancelled()?,
                _ => self.rows()?,
            }
        }
        if self.talk.status != b'I' {
            let end = ["COMMIT", "ROLLBACK"][self.random.below(2)];
            self.ask(end)?;
        }
        Ok(())
    }

    fn fail(&mut self) -> io::Result<()> {
        let answer = self.talk.ask("SELECT 1/0")?;
        self.expect(&answer, &["22012", "57014"]);
        assert!(answer.error.is_some(), "{answer:?}");
        Ok(())
    }

    fn prepare_and_execute(&mut self) -> io::Result<()> {
        let which = self.random.below(STATEMENTS);
        let is_new = self.prepared.insert(which);
        if is_new {
            self.put_parse(&name(which), &text(which));
        }
        let request = self.put_execute(&name(which));
        put(&mut self.talk.out, b'S', |_| {});
        self.talk.send()?;
        let answer = self.talk.answer()?;
        self.expect(&answer, &["57014"]);
        match answer.error {
            None => assert_eq!(answer.rows, [(request, text(which))]),
            // Cancelled before a server had anything of it.
            Some(_) if is_new && answer.parsed == 0 => drop(self.prepared.remove(&which)),
            Some(_) => {}
        }
        Ok(())
    }

    /// Several statements at once, of which one may fail, and a Close.
    fn pipeline(&mut self) -> io::Result<()> {
        let fails = self.random.once_in(3);
        let mut expected = Vec::new();
        for _ in 0..1 + self.random.below(5) {
            let which = self.random.below(STATEMENTS);
            if self.prepared.insert(which) {
                self.put_parse(&name(which), &text(which));
            }
            expected.push((self.put_execute(&name(which)), text(which)));
        }
        if fails {
            self.put_execute("nothing");
        }
        let closed = self.prepared.first().copied().filter(|_| self.random.once_in(2));
        if let Some(closed) = closed {
            put(&mut self.talk.out, b'C', |body| {
                body.push(b'S');
                put_text(body, name(closed).as_bytes());
            });
        }
        put(&mut self.talk.out, b'S', |_| {});
        self.talk.send()?;
        let answer = self.talk.answer()?;
        self.expect(&answer, if fails { &["26000", "57014"] } else { &["57014"] });
        match answer.error.as_deref() {
            None => {
                assert!(answer.rows == expected && !fails, "{expected:?}: {answer:?}");
                self.prepared.retain(|which| Some(*which) != closed);
            }
            Some("26000") => assert_eq!(answer.rows, expected),
            // Which statements are there now is hard to say: it parses new ones.
            _ => return Err(io::ErrorKind::Interrupted.into()),
        }
        Ok(())
    }

    fn put_parse(&mut self, name: &str, text: &str) {
        put(&mut self.talk.out, b'P', |body| {
            put_text(body, name.as_bytes());
            put_text(body, text.as_bytes());
            body.extend([0; 2]);
        });
    }

    /// Appends Bind and Execute.
    fn put_execute(&mut self, name: &str) -> u64 {
        let tag = self.talk.tag();
        put(&mut self.talk.out, b'B', |body| {
            put_text(body, b"");
            put_text(body, name.as_bytes());
            body.extend([0, 0, 0, 1]);
            body.extend((tag.text().len() as u32).to_be_bytes());
            body.extend(tag.text().as_bytes());
            body.extend([0; 2]);
        });
        put(&mut self.talk.out, b'E', |body| body.extend([0; 5]));
        tag.request
    }

    fn copy_in(&mut self) -> io::Result<()> {
        let tag = self.talk.tag();
        let fails = if self.random.once_in(3) { 1 + self.random.below(5) } else { 0 };
        put_query(&mut self.talk.out, &tag.behind(&format!("COPY t FROM STDIN {fails}")));
        self.talk.send()?;
        let answer = self.talk.answer()?;
        self.expect(&answer, &["57014"]);
        if !answer.copies {
            return Ok(());
        }
        for piece in 0..self.random.below(8) {
            let text = format!("{} {}", tag.mark(), "x".repeat(piece * 100));
            put(&mut self.talk.out, b'd', |body| body.extend(text.as_bytes()));
            if self.random.once_in(8) {
                // Gone in the middle of a message.
                let half = self.talk.out.len() / 2;
                self.talk.out.truncate(half);
                self.talk.send()?;
                sleep(Duration::from_millis(self.random.below(100) as u64))?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.talk.send()?;
        }
        let gives_up = self.random.once_in(4);
        match gives_up {
            true => put(&mut self.talk.out, b'f', |body| put_text(body, b"no more")),
            false => put(&mut self.talk.out, b'c', |_| {}),
        }
        self.talk.send()?;
        let answer = self.talk.answer()?;
        self.expect(&answer, &["57014", "22P04"]);
        assert!(answer.error.is_some() || !gives_up, "{answer:?}");
        Ok(())
    }

    fn copy_out(&mut self) -> io::Result<()> {
        let count = self.random.below(200);
        self.ask(&format!("COPY t TO STDOUT {count}"))?;
        Ok(())
    }

    /// Sets what is its own for as long as it is there, and looks at all that is.
    fn settings(&mut self) -> io::Result<()> {
        if self.talk.status != b'I' {
            return Ok(());
        }
        if self.random.once_in(2) {
            let new = format!("a{}", self.random.below(3));
            if self.ask(&format!("SET application_name TO '{new}'"))?.error.is_none() {
                self.application = new;
            }
        }
        if !self.is_shared && self.random.once_in(2) {
            let new = format!("{}kB", 1 + self.random.below(9));
            if self.ask(&format!("SET work_mem TO '{new}'"))?.error.is_none() {
                self.memory = new;
            }
        }
        let expected = [
            ("application_name", self.application.clone()),
            ("work_mem", self.memory.clone()),
            ("search_path", "public".to_owned()),
            ("TimeZone", "UTC".to_owned()),
        ];
        let (name, value) = &expected[self.random.below(expected.len())];
        let answer = self.ask(&format!("SHOW {name}"))?;
        assert!(answer.error.is_some() || answer.rows[0].1 == *value, "{name}, not {value:?}: {answer:?}");
        Ok(())
    }

    /// A slow statement, and mostly a cancel request, early or late.
    fn cancelled(&mut self) -> io::Result<()> {
        let tag = self.talk.tag();
        put_query(&mut self.talk.out, &tag.behind(&format!("SELECT sleep {}", self.random.below(80))));
        self.talk.send()?;
        if self.random.below(3) > 0 {
            sleep(Duration::from_millis(self.random.below(100) as u64))?;
            let request = self.talk.request_cancel();
            let sent = spawn(move || request.send());
            if self.random.once_in(2) {
                let _ = sent.join();
            }
        }
        let answer = self.talk.answer()?;
        self.expect(&answer, &["57014"]);
        Ok(())
    }

    /// What the next client must not see.
    fn leave_something(&mut self) -> io::Result<()> {
        let what =
            ["LISTEN news", "CREATE TEMP TABLE t ()", "SELECT pg_advisory_lock(1)"][self.random.below(3)];
        self.ask(what)?;
        Ok(())
    }

    fn leave_abruptly(&mut self) -> io::Result<()> {
        let tag = self.talk.tag();
        put_query(&mut self.talk.out, &tag.behind(&format!("SELECT sleep {}", self.random.below(100))));
        if self.random.once_in(2) {
            let some = self.random.below(self.talk.out.len());
            self.talk.out.truncate(some);
        }
        self.talk.send()?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

fn name(which: usize) -> String {
    format!("s{which}")
}

fn text(which: usize) -> String {
    format!("SELECT echo {which}")
}
