//! A connection that subscribes: messages go out while requests come in.
//!
//! Three coroutines of one scope: one writes what the queue has, and is the only one that writes; one reads requests, whose
//! replies take their place in that queue; one waits for the word that the hub has cut the subscriber off. Each of them
//! ends the others when it ends badly. When nothing is subscribed to any more, the connection is an ordinary one again.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use machinarium::sync::channel::RecvError;
use machinarium::{scope, shield, timeout};

use crate::command::{self, Place, Session};
use crate::config::Totals;
use crate::hub::Subscription;
use crate::reply::Reply;
use crate::resp::{Arguments, Parser};
use crate::shard::Shard;
use crate::wire::Wire;

/// What is read at once.
const CHUNK: usize = 4 << 10;

/// The longest beginning of a request that is kept.
const LONGEST: usize = 64 << 10;

/// How it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// As an ordinary connection: all channels are left.
    Requests,
    End,
}

/// Serves a subscriber, whose first request was for `channels` and whose bytes in `held` have come and were not read yet.
pub(crate) fn serve<S: Wire>(
    shard: &Rc<Shard>,
    stream: &S,
    parser: &mut Parser,
    held: &mut Vec<u8>,
    channels: &[Vec<u8>],
) -> io::Result<After> {
    let subscription = shard.hub.join()?;
    for channel in channels {
        subscription.subscribe(channel)?;
    }
    let (allowed, leaving) = (shard.config.write_timeout, Cell::new(false));
    scope(|scope| {
        scope.spawn(|| {
            let cut_off = matches!(subscription.kicked.recv(), Err(RecvError::Disconnected));
            if cut_off && !leaving.get() {
                scope.cancel("the subscriber does not read");
            }
        });
        scope.spawn(|| {
            if write(stream, &subscription, allowed).is_err() {
                scope.cancel("the subscriber cannot be written to");
            }
        });
        let reader = scope.spawn(|| read(shard, stream, parser, held, &subscription));
        let result = reader.join().map_err(io::Error::from);
        // What waits is still written; then the writer sees the queue's end.
        leaving.set(true);
        shield(|| subscription.leave())?;
        result?
    })
}

/// Writes what the queue has until nobody can put anything in.
fn write<S: Wire>(stream: &S, subscription: &Subscription, allowed: Duration) -> io::Result<()> {
    while let Ok(message) = subscription.queue.recv() {
        timeout(allowed, || stream.write_shared(&message))?;
        subscription.waiting.fetch_sub(message.len(), Relaxed);
    }
    Ok(())
}

fn read<S: Wire>(
    shard: &Rc<Shard>,
    stream: &S,
    parser: &mut Parser,
    held: &mut Vec<u8>,
    subscription: &Subscription,
) -> io::Result<After> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let complete = match parser.advance(held) {
            Ok(complete) => complete,
            Err(error) => {
                subscription.answer(&Reply::error(format!("ERR {error}")))?;
                return Ok(After::End);
            }
        };
        let Some(length) = complete else {
            if held.len() > LONGEST {
                return Ok(After::End);
            }
            match stream.read_shared(&mut chunk)? {
                0 => return Ok(After::End),
                count => held.extend_from_slice(&chunk[..count]),
            }
            continue;
        };
        let after = request(shard, parser.arguments(held), subscription);
        parser.reset();
        held.drain(..length);
        if let Some(after) = after? {
            return Ok(after);
        }
    }
}

/// Does one request. What a subscriber may ask for is little, as with Redis.
fn request(
    shard: &Rc<Shard>,
    arguments: Arguments<'_>,
    subscription: &Subscription,
) -> io::Result<Option<After>> {
    if arguments.is_empty() {
        return Ok(None);
    }
    Totals::add(&shard.totals.commands, 1);
    let names = || arguments.iter().skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
    match command::find(arguments).map(|command| command.place) {
        Err(error) => subscription.answer(&error)?,
        Ok(Place::Session(Session::Subscribe)) => {
            names().iter().try_for_each(|channel| subscription.subscribe(channel))?;
        }
        Ok(Place::Session(Session::Unsubscribe)) => {
            if subscription.unsubscribe(&names())? == 0 {
                return Ok(Some(After::Requests));
            }
        }
        Ok(Place::Session(Session::Ping)) => {
            let text = if arguments.len() > 1 { arguments.get(1) } else { b"" };
            subscription.answer(&Reply::Array(vec![Reply::bulk(b"pong"), Reply::bulk(text)]))?;
        }
        Ok(Place::Session(Session::Quit)) => {
            subscription.answer(&Reply::OK)?;
            return Ok(Some(After::End));
        }
        Ok(_) => {
            let name = command::printable(arguments.get(0)).to_ascii_lowercase();
            let text = format!(
                "ERR Can't execute '{name}': only SUBSCRIBE / UNSUBSCRIBE / PING / QUIT are allowed in this context"
            );
            subscription.answer(&Reply::error(text))?;
        }
    }
    Ok(None)
}
