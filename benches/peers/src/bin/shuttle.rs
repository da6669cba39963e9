//! shuttle: threads and channels, and no hosts, no network and no time. A connection is two threads and two channels.

use std::sync::mpsc::RecvError;

use peers::{Shape, measure_all};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::{Config, MaxSteps, Runner, thread};

type Message = [u8; 64];

fn main() {
    measure_all(|shape| {
        let mut config = Config::new();
        config.max_steps = MaxSteps::None;
        Runner::new(RandomScheduler::new_from_seed(1, shape.worlds), config).run(move || world(shape));
    });
}

fn world(shape: Shape) {
    let connections = shape.clients * shape.connections;
    let threads: Vec<_> = (0..connections).flat_map(|_| connection(shape.trips)).collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

fn connection(trips: usize) -> [thread::JoinHandle<()>; 2] {
    let (requests, requested) = channel();
    let (answers, answered) = channel();
    let server = thread::spawn(move || while echo(&requested, &answers).is_ok() {});
    let client = thread::spawn(move || {
        for trip in 0..trips {
            let request = [trip as u8; 64];
            requests.send(request).expect("a server");
            assert_eq!(answered.recv(), Ok(request));
        }
    });
    [server, client]
}

fn echo(requested: &Receiver<Message>, answers: &Sender<Message>) -> Result<(), RecvError> {
    // Nobody may be there to hear the last answer.
    let _ = answers.send(requested.recv()?);
    Ok(())
}
