//! M4. Below a program that only writes is a protocol that also answers: as with the key updates of TLS 1.3, the reader sends something
//! for every few records, and cannot read on until that is sent. The wrong writer does not read before it has written all.

use std::io;
use std::rc::Rc;

use machinarium::net::TcpStream;
use machinarium_sim::World;

use crate::place::pair;
use crate::table::Twin;

const RECORD: usize = 1024;
const UPDATE: usize = 512;

pub(crate) fn script(world: &World, twin: Twin) {
    let records = 8 << world.random(7);
    pair(
        world,
        move |stream, _| {
            stream.set_readahead(0);
            take_in(&stream, records)
        },
        move |stream, _| {
            stream.set_readahead(0);
            give(stream, records, twin)
        },
    );
}

/// Reads records, and updates its keys after each.
fn take_in(stream: &TcpStream, records: usize) -> io::Result<()> {
    for _ in 0..records {
        stream.read_exact(&mut [0; RECORD])?;
        stream.write_all(&[1; UPDATE])?;
    }
    Ok(())
}

fn give(stream: TcpStream, records: usize, twin: Twin) -> io::Result<()> {
    let stream = Rc::new(stream);
    let reading = stream.clone();
    let updates = move || (0..records).try_for_each(|_| reading.read_exact(&mut [0; UPDATE]));
    let reader = (!twin.is_wrong()).then(|| machinarium::spawn(updates.clone()));
    for _ in 0..records {
        stream.write_all(&[7; RECORD])?;
    }
    match reader {
        Some(reader) => reader.join()?,
        None => updates(),
    }
}
