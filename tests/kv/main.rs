//! Tests of the key-value server in `tests/apps/kv`, whose files are part of this binary: its parser, its store and its
//! commands as pure functions, then the whole server, on Linux and on seeds.

#[path = "../apps/kv/bug.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod bug;
#[path = "../apps/kv/client.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod client;
#[path = "../apps/kv/command.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod command;
#[path = "../apps/common/mod.rs"]
mod common;
#[path = "../apps/kv/config.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod config;
#[path = "../apps/kv/connection.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod connection;
#[path = "../apps/kv/hub.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod hub;
#[path = "../apps/kv/plan.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod plan;
#[path = "../apps/kv/reply.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod reply;
#[path = "../apps/kv/resp.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod resp;
#[path = "../apps/kv/server.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod server;
#[path = "../apps/kv/session.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod session;
#[path = "../apps/kv/shard.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod shard;
#[path = "../apps/kv/store.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod store;
#[path = "../apps/kv/subscriber.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod subscriber;
#[path = "../apps/kv/wire.rs"]
mod wire;

mod commands;
mod garbage;
mod keyspace;
mod protocol;

/// Reproducible numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
