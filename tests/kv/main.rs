//! Tests of the key-value server in `tests/apps/kv`, whose files are part of this binary: its parser, its store and its
//! commands as pure functions, then the whole server, on Linux and on seeds.

#[path = "../apps/kv/command.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod command;
#[path = "../apps/kv/reply.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod reply;
#[path = "../apps/kv/resp.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod resp;
#[path = "../apps/kv/store.rs"]
#[allow(dead_code, reason = "the program uses the rest")]
mod store;

mod commands;
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
