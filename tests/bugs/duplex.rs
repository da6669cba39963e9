//! M3. Two ends have much to tell each other. The wrong ones tell all before they listen.

use std::io;
use std::rc::Rc;

use machinarium::net::TcpStream;
use machinarium_sim::World;

use crate::place::{Dice, pair};
use crate::table::Twin;

pub(crate) fn script(world: &World, twin: Twin) {
    let length = 1 << (10 + world.random(9));
    let end = move |stream: TcpStream, dice: Dice| exchange(stream, &dice, length, twin);
    pair(world, end, end);
}

fn exchange(stream: TcpStream, dice: &Dice, length: usize, twin: Twin) -> io::Result<()> {
    dice.nap(100);
    let stream = Rc::new(stream);
    let (ours, mut theirs) = (vec![7; length], vec![0; length]);
    if twin.is_wrong() {
        stream.write_all(&ours)?;
        stream.read_exact(&mut theirs)?;
    } else {
        let writing = stream.clone();
        let writer = machinarium::spawn(move || writing.write_all(&ours));
        stream.read_exact(&mut theirs)?;
        writer.join()??;
    }
    assert!(theirs.iter().all(|byte| *byte == 7), "another's bytes");
    Ok(())
}
