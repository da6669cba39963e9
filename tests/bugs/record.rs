//! M5. A read brings two records, and the second one stays in the program's own buffer, of which no poller knows. The wrong reader waits until the
//! socket can be read before it looks there.

use std::io::{self, Read};

use machinarium::net::TcpStream;
use machinarium::select;
use machinarium_sim::World;

use crate::place::pair;
use crate::table::Twin;

const RECORD: usize = 8;
const RECORDS: usize = 4;

pub(crate) fn script(world: &World, twin: Twin) {
    pair(
        world,
        |stream, dice| {
            for number in 0..RECORDS {
                dice.nap(300);
                stream.write_all(&[number as u8; RECORD])?;
            }
            // Until the reader is content.
            stream.read_exact(&mut [0])
        },
        move |stream, _| {
            let mut records = Records { stream, buffer: Vec::new(), twin };
            for number in 0..RECORDS {
                assert_eq!(records.next()?, [number as u8; RECORD]);
            }
            Ok(records.stream.write_all(&[0])?)
        },
    );
}

struct Records {
    stream: TcpStream,
    /// What was read and not asked for yet.
    buffer: Vec<u8>,
    twin: Twin,
}

impl Records {
    fn next(&mut self) -> io::Result<Vec<u8>> {
        if self.twin.is_wrong() {
            self.fill()?;
        }
        while self.buffer.len() < RECORD {
            self.fill()?;
        }
        Ok(self.buffer.drain(..RECORD).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        select! { readable(self.stream) => (), }?;
        let mut some = [0; 100];
        let count = self.stream.read(&mut some)?;
        self.buffer.extend_from_slice(&some[..count]);
        Ok(())
    }
}
