//! Where files come from in the hunt: a server of HTTP/1.1 whose files change, and which cuts, stalls, resets, refuses, sends elsewhere,
//! answers ranges as it should and as it should not, and says lengths that it does not keep to.
//!
//! What a client cannot know it does not do: send less than a length that it says and then call it the end, or say that two versions are
//! one (an ETag that is not weak, or a date of long ago, is of one version for ever).

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use httpdate::fmt_http_date;
use machinarium::net::TcpListener;
use machinarium::{now, sleep, timeout};

use crate::common::init::keep_starting;
use crate::common::place::Certificate;
use crate::common::random::Random;

/// The server's clock when its own begins.
const EPOCH: u64 = 1_767_225_600;
/// The most of a request's head.
const HEAD: usize = 1 << 14;

/// What outlives the server's processes, as a disk does: its files, and what it is up to.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) files: Vec<OriginFile>,
    seed: u64,
    /// From now on it does everything right, and nothing changes.
    calm: AtomicBool,
    requests: AtomicU64,
}

/// A file that changes, or does not.
#[derive(Debug)]
pub(crate) struct OriginFile {
    pub(crate) number: usize,
    seed: u64,
    size: usize,
    mark: Mark,
    /// How it is called in Content-Disposition.
    pub(crate) called: Option<String>,
    /// The number of its version, and the second at which that came, in one word.
    current: AtomicU64,
}

/// How versions of a file are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// There is one only.
    Fixed,
    /// Each has an ETag.
    Strong,
    /// All have the same weak one.
    Weak,
    /// By the date of the last change alone.
    Dated,
    Nothing,
}

/// What it does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Right,
    Chunked,
    Refuse,
    Garbage,
    Elsewhere,
    Around,
    /// Of a range: not all of it.
    ShortPart,
    /// Of a range: the whole file.
    WholeInstead,
    OtherPart,
    /// A part whose length is not that of its range.
    WrongLength,
    /// More than it says.
    Longer,
    /// Of a range: that there is none.
    NoPart,
    /// Of a range: without a look at the condition.
    NoCondition,
}

const MOODS: [Mood; 12] = [
    Mood::Chunked,
    Mood::Refuse,
    Mood::Garbage,
    Mood::Elsewhere,
    Mood::Around,
    Mood::ShortPart,
    Mood::WholeInstead,
    Mood::OtherPart,
    Mood::WrongLength,
    Mood::Longer,
    Mood::NoPart,
    Mood::NoCondition,
];

/// How far an answer comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    ToItsEnd,
    /// It ends in the middle, as if that was all.
    Cut,
    /// In the middle nothing comes for long, and then its end.
    Stall,
}

/// What is read of a request.
struct Request {
    path: String,
    /// The offset from which on it wants the file.
    from: Option<usize>,
    condition: Option<String>,
}

impl Origin {
    pub(crate) fn new(files: Vec<OriginFile>, seed: u64) -> Origin {
        Origin { files, seed, calm: AtomicBool::new(false), requests: AtomicU64::new(0) }
    }

    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Relaxed);
    }

    /// The main function of its host.
    pub(crate) fn serve(
        self: &Arc<Origin>,
        address: SocketAddr,
        certificate: Option<&Certificate>,
    ) -> io::Result<()> {
        keep_starting(|begun| {
            machinarium::run(|| {
                let tls = certificate.map(Certificate::config).transpose()?;
                let listener = TcpListener::bind(address)?;
                begun.set(true);
                loop {
                    let (stream, _) = listener.accept()?;
                    let (origin, tls) = (self.clone(), tls.clone());
                    let serve = move || match tls {
                        None => origin.answer_all(stream),
                        Some(tls) => origin.answer_all(tls.accept(stream)?),
                    };
                    // Without a stack for it, the stream is closed.
                    let _ = machinarium::try_spawn("client", serve);
                }
            })
        })
    }

    /// Answers one request after the other, until one is not answered to its end, or the client has gone.
    fn answer_all(&self, mut stream: impl BufRead + Write) -> io::Result<()> {
        while let Some(request) = timeout(Duration::from_secs(20), || Request::read(&mut stream))? {
            let mut random =
                Random(self.seed ^ self.requests.fetch_add(1, Relaxed).wrapping_mul(0x5851_f42d_4c95_7f2d));
            let calm = self.calm.load(Relaxed);
            let mood = if calm || random.once_in(2) { Mood::Right } else { MOODS[random.below(MOODS.len())] };
            let way =
                [Way::ToItsEnd, Way::ToItsEnd, Way::Cut, Way::Stall][if calm { 0 } else { random.below(4) }];
            let (head, body) = self.answer(&request, mood, calm, &mut random);
            stream.write_all(&head)?;
            stream.flush()?;
            let end = if way == Way::ToItsEnd { body.len() } else { random.below(body.len() + 1) };
            for piece in body[..end].chunks(100 + random.below(4000)) {
                stream.write_all(piece)?;
                stream.flush()?;
                sleep(Duration::from_millis(random.below(3) as u64))?;
            }
            if way == Way::Stall {
                sleep(Duration::from_millis(random.below(8000) as u64))?;
            }
            if way != Way::ToItsEnd || mood == Mood::Longer {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The head of an answer, and its body as it goes over the wire.
    fn answer(&self, request: &Request, mood: Mood, calm: bool, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        let (path, moved) = match request.path.strip_prefix("/elsewhere") {
            Some(path) => (path, true),
            None => (&*request.path, false),
        };
        let number = path.strip_prefix('/').and_then(|number| number.parse::<usize>().ok());
        let Some(file) = number.and_then(|number| self.files.get(number)) else {
            return (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(), Vec::new());
        };
        match mood {
            Mood::Refuse => {
                let status = [
                    "500 Internal Server Error",
                    "503 Service Unavailable\r\nretry-after: 1",
                    "429 Too Many Requests",
                    "403 Forbidden",
                ];
                let status = status[random.below(status.len())];
                (format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\n").into_bytes(), b"no!\n".to_vec())
            }
            Mood::Garbage => ((0..random.below(300)).map(|_| random.next() as u8).collect(), Vec::new()),
            Mood::Elsewhere if !moved => (
                format!(
                    "HTTP/1.1 302 Found\r\nlocation: /elsewhere/{number}\r\ncontent-length: 0\r\n\r\n",
                    number = file.number
                )
                .into_bytes(),
                Vec::new(),
            ),
            Mood::Around => (
                format!(
                    "HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
                    request.path
                )
                .into_bytes(),
                Vec::new(),
            ),
            mood => file.answer(request, mood, calm, random),
        }
    }
}

impl Request {
    /// The next request; none at the client's end.
    fn read(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head)? == 0 || head.len() > HEAD {
                return Ok(None);
            }
        }
        let head = String::from_utf8_lossy(&head);
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let header = |name: &str| {
            let mut headers = head.lines().filter_map(|line| line.split_once(": "));
            headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let from =
            header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        Ok(Some(Request { path, from, condition: header("if-range") }))
    }
}

impl OriginFile {
    pub(crate) fn new(
        number: usize,
        size: usize,
        mark: Mark,
        called: Option<String>,
        seed: u64,
    ) -> OriginFile {
        OriginFile { number, seed, size, mark, called, current: AtomicU64::new(0) }
    }

    /// The bytes of a version: every second one is a little longer.
    pub(crate) fn bytes(&self, version: u64) -> Vec<u8> {
        let mut random = Random(self.seed ^ version.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let size = self.size + if version % 2 == 1 { self.size / 7 } else { 0 };
        let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
        bytes.truncate(size);
        bytes
    }

    pub(crate) fn is_fixed(&self) -> bool {
        self.mark == Mark::Fixed
    }

    /// The last version that there was.
    pub(crate) fn version(&self) -> u64 {
        self.current.load(Relaxed) >> 32
    }

    /// There is a new version.
    fn change(&self, second: u64) {
        if self.mark != Mark::Fixed {
            self.current.store((self.version() + 1) << 32 | second, Relaxed);
        }
    }

    fn answer(&self, request: &Request, mood: Mood, calm: bool, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        let second = now().as_nanos() / 1_000_000_000;
        if !calm && random.once_in(4) {
            self.change(second);
        }
        let (version, changed) = (self.version(), self.current.load(Relaxed) & u64::from(u32::MAX));
        let date = |second: u64| fmt_http_date(UNIX_EPOCH + Duration::from_secs(EPOCH + second));
        let (name, validator) = match self.mark {
            Mark::Fixed | Mark::Strong => ("etag", format!("\"{}-{version}\"", self.number)),
            Mark::Weak => ("etag", format!("W/\"{}\"", self.number)),
            Mark::Dated => ("last-modified", date(changed)),
            Mark::Nothing => ("x-nothing", String::new()),
        };
        let mut head = format!("date: {}\r\n{name}: {validator}\r\n", date(second));
        if let Some(called) = &self.called {
            head += &format!("content-disposition: attachment; filename=\"../../tmp/{called}\"\r\n");
        }
        let bytes = self.bytes(version);
        let holds = request.condition.as_ref().is_none_or(|condition| *condition == validator)
            || mood == Mood::NoCondition;
        match request.from {
            Some(from) if holds && mood != Mood::WholeInstead => part(&head, &bytes, from, mood, random),
            _ => whole(&head, &bytes, mood),
        }
    }
}

fn whole(head: &str, bytes: &[u8], mood: Mood) -> (Vec<u8>, Vec<u8>) {
    match mood {
        Mood::Chunked => (
            format!("HTTP/1.1 200 OK\r\n{head}transfer-encoding: chunked\r\n\r\n").into_bytes(),
            chunked(bytes),
        ),
        _ => (
            format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n", bytes.len()).into_bytes(),
            bytes.to_vec(),
        ),
    }
}

fn part(head: &str, bytes: &[u8], from: usize, mood: Mood, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let total = bytes.len();
    if from >= total || mood == Mood::NoPart {
        let head = format!(
            "HTTP/1.1 416 Range Not Satisfiable\r\n{head}content-range: bytes */{total}\r\ncontent-length: 0\r\n\r\n"
        );
        return (head.into_bytes(), Vec::new());
    }
    let (from, end) = match mood {
        Mood::ShortPart => (from, from + 1 + random.below(total - from)),
        Mood::OtherPart => (random.below(total), total),
        _ => (from, total),
    };
    let body = &bytes[from..end];
    let head =
        format!("HTTP/1.1 206 Partial Content\r\n{head}content-range: bytes {from}-{}/{total}\r\n", end - 1);
    let length = |length: usize| format!("{head}content-length: {length}\r\n\r\n").into_bytes();
    match mood {
        Mood::Chunked => (format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes(), chunked(body)),
        Mood::Longer => (
            format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes(),
            chunked(&[body, b"more"].concat()),
        ),
        Mood::WrongLength => (length(body.len().div_ceil(2)), body[..body.len().div_ceil(2)].to_vec()),
        _ => (length(body.len()), body.to_vec()),
    }
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = bytes
        .chunks(700)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .collect();
    body.extend(b"0\r\n\r\n");
    body
}
