//! Crates that block: they run on coroutines as they are, with this library's streams for the system's.

use std::time::Duration;

use machinarium::adapter::ureq::{Connector, Resolver, agent};
use machinarium::net::{TcpListener, TcpStream};
use machinarium::tls::{ClientConfig, ServerConfig};
use machinarium::{Builder, JoinHandle, machine, now, spawn};
use machinarium_sim::Durations;
use tungstenite::{Message, WebSocket, protocol::Role};
use ureq::Agent;

use super::{Error, PEM, SHORT, both, bytes, tcp, tls};

/// Answers so many requests on one connection, each with its own first line.
fn answer(stream: &mut (impl std::io::BufRead + std::io::Write), requests: usize) -> std::io::Result<()> {
    for _ in 0..requests {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
        }
        let first = head.split(|byte| *byte == b'\r').next().unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", first.len())?;
        stream.write_all(first)?;
    }
    Ok(())
}

/// Answers so many requests on each of its connections.
fn server(requests: Vec<usize>, tls: Option<ServerConfig>) -> std::io::Result<(u16, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let serve = move || {
        for requests in requests {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            match &tls {
                None => answer(&mut stream, requests).unwrap(),
                Some(config) => {
                    let mut stream = config.accept(stream).unwrap();
                    answer(&mut stream, requests).unwrap();
                    stream.close().unwrap();
                }
            }
        }
    };
    Ok((port, spawn(serve)))
}

fn get(agent: &Agent, url: String) -> Result<String, Error> {
    Ok(agent.get(url).call()?.body_mut().read_to_string()?)
}

#[test]
fn ureq_keeps_its_connections() {
    both(|| {
        let (port, serving) = server(vec![3, 1], None)?;
        let agent = agent();
        for path in ["one", "two", "three"] {
            let url = format!("http://localhost:{port}/{path}");
            assert_eq!(get(&agent, url)?, format!("GET /{path} HTTP/1.1"));
        }
        // The server has ended the first connection, which is seen.
        machinarium::sleep(SHORT * 10)?;
        assert_eq!(get(&agent, format!("http://localhost:{port}/four"))?, "GET /four HTTP/1.1");
        Ok(serving.join()?)
    });
}

#[test]
fn ureq_speaks_tls() {
    both(|| {
        let key = &PEM.localhost;
        let config = ServerConfig::builder().certificate_pem(key.certificate.as_str(), key.key.as_str());
        let (port, serving) = server(vec![2], Some(config.build()?))?;
        let config = ClientConfig::builder().ca_pem(PEM.root.as_str()).build()?;
        let agent =
            Agent::with_parts(ureq::config::Config::default(), Connector::new().tls(config), Resolver);
        for _ in 0..2 {
            assert_eq!(get(&agent, format!("https://localhost:{port}/x"))?, "GET /x HTTP/1.1");
        }
        drop(agent);
        serving.join()?;
        let told = get(&machinarium::adapter::ureq::agent(), format!("https://localhost:{port}/x"));
        assert!(told.is_err(), "nobody listens there any more");
        Ok(())
    });
}

/// ureq's timeouts are ureq's errors; a deadline around it is the coroutine's.
#[test]
fn ureq_ends_in_time() {
    both(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/", listener.local_addr()?);
        let config = ureq::config::Config::builder().timeout_global(Some(20.millis())).build();
        let impatient = Agent::with_parts(config, Connector::new(), Resolver);
        let begun = now();
        let error = impatient.get(&url).call().unwrap_err();
        assert!(matches!(error, ureq::Error::Timeout(_)), "{error}");
        assert!(now() - begun >= Duration::from_millis(19));
        let error = machinarium::timeout(SHORT, || agent().get(&url).call()).unwrap_err();
        assert!(matches!(error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut));
        let asks = spawn(move || agent().get(&url).call().map(drop));
        machinarium::yield_now();
        asks.cancel("enough")?;
        let Err(ureq::Error::Io(error)) = asks.join()? else { panic!("it was cancelled") };
        assert!(machinarium::cancelled(&error).is_some());
        Ok(())
    });
}

/// A connection that an agent keeps is of one machine.
#[test]
fn an_agent_is_shared_among_machines() {
    both(|| {
        let (port, serving) = server(vec![1, 1], None)?;
        let agent = agent();
        let url = format!("http://localhost:{port}/");
        get(&agent, url.clone())?;
        let other = machine::spawn("other", move || get(&agent, url).map_err(|error| error.to_string()))?;
        assert_eq!(other.join()??, "GET / HTTP/1.1");
        Ok(serving.join()?)
    });
}

/// ureq asks whether a kept connection is still good while it holds a lock of std: whoever switched there, to one who wants that lock, would
/// put the whole machine to sleep for ever.
#[test]
fn an_agent_is_shared_among_coroutines() {
    both(|| {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let serving = spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                spawn(move || answer(&mut stream, usize::MAX));
            }
        });
        let ask_often = move || {
            let agent = agent();
            machinarium::scope(|scope| {
                for path in 0..8 {
                    let agent = &agent;
                    scope.spawn(move || {
                        for _ in 0..30 {
                            let answer = get(agent, format!("http://127.0.0.1:{port}/{path}")).unwrap();
                            assert_eq!(answer, format!("GET /{path} HTTP/1.1"));
                        }
                    });
                }
            });
        };
        // Every operation there gives way to others.
        Builder::new().budget(1).spawn(ask_often)?.join()?;
        serving.cancel("all have asked")?;
        Ok(serving.join()?)
    });
}

/// How a body without a length ends says whether that is all of it.
#[test]
fn a_connection_that_breaks_is_not_the_end_of_an_answer() {
    for breaks in [false, true] {
        both(move || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let port = listener.local_addr()?.port();
            let (read, may_break) = machinarium::sync::channel::bounded(1);
            let serving = spawn(move || -> std::io::Result<()> {
                let (stream, _) = listener.accept()?;
                stream.read_until(b'\n', &mut Vec::new())?;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello")?;
                may_break.recv().map_err(std::io::Error::other)?;
                if breaks {
                    stream.set_linger(Some(Duration::ZERO))?;
                } else {
                    // What is left unread when a stream is closed breaks it too.
                    while stream.read_until(b'\n', &mut Vec::new())? > 2 {}
                }
                Ok(())
            });
            let agent = agent();
            let answer = agent.get(format!("http://127.0.0.1:{port}/")).call()?;
            let mut body = answer.into_body().into_reader();
            std::io::Read::read_exact(&mut body, &mut [0; 5])?;
            read.send(()).map_err(|error| error.to_string())?;
            let end = std::io::Read::read(&mut body, &mut [0; 5]);
            assert_eq!(end.map_err(drop), if breaks { Err(()) } else { Ok(0) });
            Ok(serving.join()??)
        });
    }
}

#[test]
fn names_that_are_not_there_are_errors() {
    both(|| {
        let error = get(&agent(), "http://nowhere.invalid/".to_owned()).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(ureq::Error::Io(_))), "{error:?}");
        Ok(())
    });
}

fn shout<S: std::io::Read + std::io::Write>(stream: S) -> Result<(), String> {
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                socket.send(Message::text(text.to_uppercase())).map_err(|error| error.to_string())?;
            }
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn talk<S: std::io::Read + std::io::Write>(stream: S) -> Result<(), Error> {
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    let long = bytes(100_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>();
    for text in ["hello", &long] {
        socket.send(Message::text(text))?;
        assert!(socket.read()? == Message::text(text.to_uppercase()));
    }
    socket.close(None)?;
    while socket.read().is_ok() {}
    Ok(())
}

#[test]
fn tungstenite_over_streams() {
    both(|| {
        let (ours, theirs): (TcpStream, TcpStream) = tcp()?;
        let serving = spawn(move || shout(theirs));
        talk(ours)?;
        serving.join()??;
        let (ours, theirs) = tls(&[])?;
        let serving = spawn(move || shout(theirs));
        talk(ours)?;
        Ok(serving.join()??)
    });
}

/// A read that waits is one of the coroutine's: it can be given up.
#[test]
fn tungstenite_can_be_cancelled() {
    both(|| {
        let (ours, theirs) = tcp()?;
        let serving = spawn(move || shout(theirs));
        machinarium::yield_now();
        serving.cancel("enough")?;
        let error = serving.join()?.unwrap_err();
        assert!(error.contains("enough"), "{error}");
        drop(ours);
        Ok(())
    });
}
