//! The whole server against clients that mean no good, on Linux and on seeds: bytes that are no requests, requests too large
//! for it, requests that are never finished, replies that are never read. Each connection gets replies, RESP errors, or its
//! end; nothing panics; what a client can make the server hold has a limit, and is given back.

use std::io::{self, BufRead, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::{run, sleep, spawn, timeout};
use machinarium_sim::{Cpu, Durations, Fault, Faults, Simulation};

use crate::client::{Answer, Client};
use crate::config::Config;
use crate::resp::Limits;
use crate::{Random, server};

const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes for incomplete requests and unsent replies, of all connections.
const BUFFERS: usize = 1 << 20;

fn config(address: SocketAddr, machines: usize) -> Config {
    Config {
        machines,
        limits: Limits { line: 1 << 10, bulk: 64 << 10, arguments: 100, request: 256 << 10 },
        buffers: BUFFERS,
        write_timeout: Duration::from_millis(300),
        ..Config::new(address)
    }
}

/// How many coroutines of servers have panicked. (In a world, that fails the seed.)
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, SeqCst);
            before(panic);
        }));
    });
}

/// Runs `attack` against the server on Linux, and on seeds.
fn both(seeds: u64, attack: fn(SocketAddr, u64) -> io::Result<()>) {
    on_linux(attack);
    for seed in 0..seeds {
        let faults = [Fault::Latency, Fault::Eintr, Fault::EpollSubset, Fault::ShortRead, Fault::ShortWrite]
            .into_iter()
            .fold(Faults::none(), |faults, kind| faults.rate(kind, 8));
        let simulation = Simulation::new(seed).faults(faults).cpu(Cpu::Loaded).keep_events(40);
        let outcome = simulation.run(move |world| {
            let server = world.host("server");
            let address = SocketAddr::new(server.address(), 6380);
            let machines = 1 + world.random(3) as usize;
            let server = server.run(move || server::serve(config(address, machines), |_| ()));
            world.sleep(1.secs());
            let client = world.host("client").run(move || run(|| finish(address, attack(address, seed))));
            world.eventually(600.secs(), || client.finished() && server.finished());
        });
        assert!(outcome.passed(), "on seed {seed}:\n{}", outcome.report(""));
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread for the server, beside this one for its clients")]
fn on_linux(attack: fn(SocketAddr, u64) -> io::Result<()>) {
    count_panics();
    let (tell, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        server::serve(config(any, 2), |addresses| tell.send(addresses.plain).unwrap())
    });
    let address = told.recv().unwrap();
    for seed in 0..5 {
        run(|| attack(address, seed)).unwrap();
    }
    run(|| finish(address, Ok(()))).unwrap();
    server.join().unwrap().unwrap();
    assert_eq!(PANICS.load(SeqCst), 0);
}

fn connect(address: SocketAddr) -> io::Result<Client<TcpStream>> {
    TcpStream::connect(address).map(Client::new)
}

/// The server is as it was: answers, has given back all it held, and ends when it is asked to.
fn finish(address: SocketAddr, attacked: io::Result<()>) -> io::Result<()> {
    attacked?;
    timeout(PATIENCE, || {
        let mut client = connect(address)?;
        assert_eq!(client.call(&[b"SET", b"key", b"value"])?, Answer::Simple("OK".to_owned()));
        assert_eq!(client.call(&[b"GET", b"key"])?, Answer::Bulk(b"value".to_vec()));
        loop {
            let Answer::Bulk(info) = client.call(&[b"INFO"])? else { panic!("INFO is a text") };
            let info = String::from_utf8(info).unwrap();
            if info.contains("\r\nconnected_clients:1\r\n") && info.contains("\r\nclient_buffers:0\r\n") {
                break;
            }
            sleep(Duration::from_millis(5))?;
        }
        client.send(&[&[b"SHUTDOWN"]])?;
        assert_eq!(client.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        Ok(())
    })
}

/// Whether an error is the end of a connection, and not a reply that is none.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Sends bytes, says that this was all, and reads every reply until the end. Returns the last one.
fn throw(address: SocketAddr, bytes: &[u8], random: &mut Random) -> io::Result<Option<Answer>> {
    let stream = TcpStream::connect(address)?;
    let mut sent = 0;
    while sent < bytes.len() {
        let part = (1 + random.below(bytes.len())).min(bytes.len() - sent);
        if stream.write_all(&bytes[sent..sent + part]).is_err() {
            break;
        }
        sent += part;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut client = Client::new(stream);
    let mut last = None;
    loop {
        match client.receive() {
            Ok(answer) => last = Some(answer),
            Err(error) if is_end(&error) => return Ok(last),
            Err(error) => return Err(error),
        }
    }
}

/// Bytes that are requests here and there, some of them changed.
fn noise(random: &mut Random) -> Vec<u8> {
    let pieces: [&[u8]; 14] = [
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nbc\r\n",
        b"*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*1\r\n$7\r\nCOMMAND\r\n",
        b"*5\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n$2\r\nPX\r\n$19\r\n9223372036854775807\r\n",
        b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n",
        b"PING\r\n",
        b"set a \"\\x00\\xff\"\r\n",
        b"*-1\r\n",
        b"*100\r\n",
        b"*101\r\n",
        b"$5\r\n",
        b"\r\n",
        b"*1\r\n$65536\r\n",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(60) {
        match random.below(8) {
            0 => bytes.extend((0..random.below(100)).map(|_| random.next() as u8)),
            _ => bytes.extend_from_slice(pieces[random.below(pieces.len())]),
        }
    }
    // Most pipelines are good up to some place.
    for _ in 0..random.below(3) {
        let place = random.below(bytes.len().max(1));
        match bytes.get_mut(place) {
            Some(byte) if random.below(2) == 0 => *byte = random.next() as u8,
            Some(_) => bytes.truncate(place),
            None => {}
        }
    }
    bytes
}

#[test]
fn random_bytes_are_answered_by_replies_or_the_end() {
    both(60, |address, seed| {
        let throwers: Vec<_> = (0..8)
            .map(|number| {
                spawn(move || {
                    let mut random = Random(seed << 8 | number);
                    for _ in 0..5 {
                        let bytes = noise(&mut random);
                        timeout(PATIENCE, || throw(address, &bytes, &mut random))?;
                    }
                    io::Result::Ok(())
                })
            })
            .collect();
        throwers.into_iter().try_for_each(|thrower| thrower.join().unwrap())
    });
}

#[test]
fn what_is_too_large_is_refused() {
    both(20, |address, seed| {
        let mut random = Random(seed);
        let refused: [(Vec<u8>, &str); 6] = [
            (vec![b'a'; 2 << 10], "too big inline request"),
            ([&b"*"[..], &[b'1'; 2 << 10]].concat(), "too big mbulk count string"),
            (b"*1000000000\r\n".to_vec(), "invalid multibulk length"),
            (b"*2\r\n$3\r\nGET\r\n$1000000000\r\n".to_vec(), "invalid bulk length"),
            (b"*1\r\n$99999999999999999999999\r\n".to_vec(), "invalid bulk length"),
            (
                [&b"*50\r\n"[..], &[&b"$60000\r\n"[..], &[0; 60_000], b"\r\n"].concat().repeat(5)].concat(),
                "too big request",
            ),
        ];
        for (bytes, expected) in refused {
            let expected = Answer::Error(format!("ERR Protocol error: {expected}"));
            assert_eq!(timeout(PATIENCE, || throw(address, &bytes, &mut random))?, Some(expected));
        }
        Ok(())
    });
}

/// Many clients that each begin a request as large as one may be, and do not finish it.
#[test]
fn requests_that_are_never_finished_have_a_limit_together() {
    both(10, |address, _| {
        let half = [&b"*9\r\n"[..], &[&b"$60000\r\n"[..], &[0; 60_000], b"\r\n"].concat().repeat(3)].concat();
        let holders: Vec<_> = (0..20)
            .map(|_| {
                let half = half.clone();
                spawn(move || -> io::Result<Option<Answer>> {
                    let stream = TcpStream::connect(address)?;
                    if stream.write_all(&half).is_err() {
                        return Ok(None);
                    }
                    let mut client = Client::new(stream);
                    match timeout(Duration::from_millis(500), || client.receive()) {
                        Ok(answer) => Ok(Some(answer)),
                        // It waits for the rest.
                        Err(error) if error.kind() == ErrorKind::TimedOut || is_end(&error) => Ok(None),
                        Err(error) => Err(error),
                    }
                })
            })
            .collect();
        let answers = holders.into_iter().map(|holder| holder.join().unwrap());
        let answers = answers.collect::<io::Result<Vec<_>>>()?;
        let refused = answers.iter().flatten().inspect(|answer| {
            let no_memory = Answer::Error("ERR no memory for so long a request now".to_owned());
            assert_eq!(**answer, no_memory);
        });
        assert!(refused.count() >= 20 - BUFFERS / half.len(), "the limit is not one");
        Ok(())
    });
}

/// A client that only writes is not read any more when its replies fill the way back, and is closed after a while.
#[test]
fn who_does_not_read_replies_is_not_read() {
    both(10, |address, _| {
        let value = vec![b'v'; 60_000];
        let mut client = timeout(PATIENCE, || connect(address))?;
        timeout(PATIENCE, || client.call(&[b"SET", b"large", &value]))?;
        let stream = TcpStream::connect(address)?;
        stream.set_readahead(0);
        let requests = b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(10_000);
        let mut written = 0;
        // 300 GB of replies.
        let error = loop {
            match timeout(PATIENCE, || stream.write_all(&requests)) {
                Ok(()) => written += requests.len(),
                Err(error) => break error,
            }
            assert!(written < 500 * requests.len(), "the server takes all and sends nothing");
        };
        assert!(is_end(&error.source), "{error}");
        Ok(())
    });
}

/// A reply is whole or the connection ends: never the start of one and then another.
#[test]
fn lines_typed_by_hand_are_answered() {
    both(5, |address, _| {
        timeout(PATIENCE, || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(b"PING\r\nECHO 'two words'\r\nNONSENSE\r\nQUIT\r\n")?;
            let mut lines = Vec::new();
            stream.read_until(b'!', &mut lines)?;
            let expected = "+PONG\r\n$9\r\ntwo words\r\n-ERR unknown command 'NONSENSE'";
            assert!(lines.starts_with(expected.as_bytes()), "{}", lines.escape_ascii());
            assert!(lines.ends_with(b"+OK\r\n"));
            assert!(stream.fill_buf()?.is_empty());
            Ok(())
        })
    });
}
