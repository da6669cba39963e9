//! Cancel requests: each client has a key of its own, and one that shows it reaches the server connection which that very client has, if it
//! has one.
//!
//! A server cancels whatever its process does when the request comes, so the process must be the client's until then. The request is on its
//! way until the server has closed the request's connection: PostgreSQL does so after it has sent the signal. Meanwhile the server connection
//! goes to nobody else (`server.rs`), and if it is not known how the request ended, to nobody ever. That lasts as long as a server takes to close
//! the connection, so there is always a limit to it.
//!
//! What waits for a server connection is cancelled where it waits: no server knows of it.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use machinarium::timeout;

use crate::connect::Target;
use crate::inbox::invalid;
use crate::pool::Pool;
use crate::server::Server;

pub(crate) const REQUEST: u32 = 80_877_102;

/// Has a server cancel what its client has asked for. The client has it when this is called.
pub(crate) fn forward(pool: &Pool, server: &Rc<Server>) {
    let cancelling = server.cancelling();
    let settings = pool.settings();
    match send(&settings.target, server.key, settings.cancel) {
        Ok(()) => cancelling.arrived(),
        Err(error) => (settings.say)(&format!("{pool}: a cancel request: {error}")),
    }
}

/// Sends a request and waits until the server has closed its connection.
pub(crate) fn send(target: &Target, key: (u32, u32), patience: Duration) -> io::Result<()> {
    timeout(patience, || {
        let wire = target.open()?;
        let words = [16, REQUEST, key.0, key.1];
        wire.write_all(&words.map(u32::to_be_bytes).concat())?;
        match wire.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(invalid("the server answers a cancel request".to_owned())),
        }
    })
}
