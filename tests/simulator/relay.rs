//! A proxy on a host of its own: whatever the network does to it, what comes out is what went in, up to an end or an error.

use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use machinarium::net::{Relay, RelayError, Step, TcpListener, TcpStream};
use machinarium::{run, scope, spawn, timeout};
use machinarium_sim::{Cpu, Durations, Fault, Faults, Simulation};

const PORT: u16 = 7000;
const SIZE: usize = 60_000;
const IDLE: Duration = Duration::from_secs(3);

fn byte(place: usize) -> u8 {
    (place / 7) as u8 ^ (place >> 8) as u8
}

fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))
}

/// Relays every connection to the server; counts those that ended well.
fn proxy(server: SocketAddr, whole: &Arc<AtomicU64>) -> io::Result<()> {
    run(|| {
        let listener = listen()?;
        loop {
            let (a, _) = listener.accept()?;
            let whole = whole.clone();
            spawn(move || {
                let Ok(b) = timeout(IDLE, || TcpStream::connect(server)) else { return };
                [&a, &b].map(|stream| stream.set_receive_buffer_size(4096)).into_iter().for_each(drop);
                match Relay::new().idle(IDLE).run(&a, &b) {
                    Ok(moved) => {
                        assert_eq!(moved.a_to_b.read, moved.a_to_b.written);
                        assert_eq!(moved.b_to_a.read, moved.b_to_a.written);
                        whole.fetch_add(1, SeqCst);
                    }
                    Err(RelayError { step, moved, .. }) => {
                        assert_ne!(step, Step::Call);
                        let held = [moved.a_to_b, moved.b_to_a].map(|flow| flow.read - flow.written);
                        assert!(held.iter().all(|held| *held <= 64 << 10), "{moved:?}");
                    }
                }
            });
        }
    })
}

/// Echoes what it can; each third connection is reset in the middle.
fn server() -> io::Result<()> {
    run(|| {
        let listener = listen()?;
        for number in 0u32.. {
            let (stream, _) = listener.accept()?;
            spawn(move || -> io::Result<()> {
                if number % 3 == 2 {
                    stream.read_exact(&mut [0; SIZE / 2])?;
                    return stream.set_linger(Some(Duration::ZERO));
                }
                io::copy(&mut &stream, &mut &stream)?;
                stream.shutdown(Shutdown::Write)
            });
        }
        Ok(())
    })
}

/// Sends and reads the same back; whether it was all.
fn exchange(proxy: SocketAddr) -> io::Result<bool> {
    let stream = timeout(IDLE, || TcpStream::connect(proxy))?;
    stream.set_read_timeout(Some(4 * IDLE))?;
    let mut got = Vec::new();
    let ended = scope(|scope| {
        scope.spawn(|| {
            let sent: Vec<u8> = (0..SIZE).map(byte).collect();
            // The end is the whole of it: after a failure nothing claims to be all.
            let _ = timeout(4 * IDLE, || stream.write_all(&sent)).map(|()| stream.shutdown(Shutdown::Write));
        });
        { &stream }.read_to_end(&mut got)
    });
    assert!(got.iter().enumerate().all(|(place, got)| *got == byte(place)), "bytes changed on the way");
    Ok(ended.is_ok() && got.len() == SIZE)
}

fn hunt(seed: u64, faults: Faults) -> (u64, u64) {
    let (relayed, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let counts = (relayed.clone(), received.clone());
    let outcome = Simulation::new(seed).faults(faults).cpu(Cpu::Loaded).run(move |world| {
        let (relayed, received) = (relayed.clone(), received.clone());
        let server = world.host("server").run(server);
        let target = SocketAddr::new(server.address(), PORT);
        let proxy = world.host("proxy").run(move || proxy(target, &relayed));
        let address = SocketAddr::new(proxy.address(), PORT);
        world.sleep(100.millis());
        let client = world.host("client").run(move || {
            run(|| {
                for _ in 0..4 {
                    received.fetch_add(u64::from(exchange(address).unwrap_or(false)), SeqCst);
                }
                io::Result::Ok(())
            })
        });
        world.sleep(Duration::from_millis(world.random(40)));
        match world.random(3) {
            0 => world.partition(&proxy, &server),
            1 => world.partition_one_way(&server, &proxy),
            _ => world.partition(&client, &proxy),
        }
        world.sleep(Duration::from_millis(world.random(8_000)));
        world.heal();
        world.eventually(300.secs(), || client.finished());
    });
    assert!(outcome.passed(), "seed {seed}: {}", outcome.report(""));
    (counts.0.load(SeqCst), counts.1.load(SeqCst))
}

#[test]
fn a_proxy_survives_partitions_resets_and_small_windows() {
    let faults = [Fault::Eintr, Fault::EpollSubset, Fault::SpuriousWake, Fault::Limits];
    let faults = faults.into_iter().fold(Faults::none(), |faults, fault| faults.rate(fault, 4));
    let (mut relayed, mut received) = (0, 0);
    for seed in 0..100 {
        let counts = hunt(seed, faults);
        (relayed, received) = (relayed + counts.0, received + counts.1);
    }
    // The partition spares some, and resets take a third.
    assert!(relayed > 100 && received > 100, "{relayed} relayed, {received} received");
}
