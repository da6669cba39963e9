//! How a machine is configured: a builder over one plain value, `Tuning`, which holds every internal limit.

use std::io;
use std::time::Duration;

use super::current;
use super::remote::{Handle, spawn_tuned};
use super::task::Control;
use crate::coroutine::{Guards, StackOptions, page};
use crate::error::Misuse;
use crate::shared::store::Limits;

/// Every internal limit of a machine, in one value: production sets them, and a simulation shrinks them to 1 so that
/// rare paths become common.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Bytes of address space of a coroutine's stack, a multiple of the page size. Default 256 KiB; only touched pages
    /// cost memory.
    pub stack_size: usize,
    /// Bytes below each stack whose touch is a fault. Default 64 KiB, since C code does not probe.
    pub stack_guard: usize,
    /// How many coroutines there may be at once. Default 1,048,576.
    pub stack_limit: usize,
    /// How many unused stacks keep their memory. Default 1,024.
    pub stack_cache: usize,
    /// How many bytes of each unused stack stay touched when the machine has been idle. Default 16 KiB.
    pub stack_keep: usize,
    /// How often an idle machine gives back what was touched deeper than that. Default 1 s.
    pub stack_sweep: Duration,
    /// After how long in one wait a coroutine's stack gives back what was touched below where it waits, if the machine has idle moments:
    /// at the latest after twice that. It costs a call to the system for each such wait. Default 1 s; `Duration::MAX` is never.
    pub stack_trim: Duration,
    /// How many coroutines an idle machine looks at for that before it looks at its descriptors again, at least 1. Default 64.
    pub stack_trim_batch: usize,
    /// How many stacks one mapping holds, at most. Default 1,024.
    pub stack_slab: usize,
    /// Bytes of address space of a big stack (see [`on_big_stack`](crate::on_big_stack)), a multiple of the page size. Default
    /// 8 MiB, what a program's first thread has.
    pub big_stack_size: usize,
    /// How many big stacks there may be at once. Default 1,024.
    pub big_stack_limit: usize,
    /// How many unused big stacks keep their memory. Default 4. An idle machine gives back what is deeper than `stack_keep`.
    pub big_stack_cache: usize,
    /// What happens when a stack can have no guard. Default [`Guards::Required`]: the spawn fails.
    pub guards: Guards,
    /// How many operations a coroutine may do before it lets others run. Default 128.
    pub budget: u32,
    /// How many switches (an operation counts 16) come before the machine looks at its descriptors. Default 1,024.
    pub turns: u32,
    /// How many events one look takes. Default 256.
    pub events: usize,
    /// How long an idle machine looks for work before it sleeps, if it has more than one processor. Default zero.
    pub spin: Duration,
    /// The order among ready coroutines is drawn from this seed. Default: first in, first out.
    pub shuffle: Option<u64>,
    /// Each operation on what threads share is preceded by a call of `sched_yield`, so that rare orders become common: for
    /// tests. Default false. A simulation sets it on machines of its choice (its `Fault::Preempt`).
    pub preempt: bool,
    /// Measures how long coroutines run, and how long they are ready before they do (`Statistics::runs` and `readies`): two
    /// looks at the clock for each switch, which then takes some 60 ns instead of 5. Default false.
    pub timing: bool,
    /// After the main closure has returned: how long others may go on undisturbed. Default zero.
    pub drain: Duration,
    /// After they were cancelled: how long they may take to end before they are unwound. Default 1 s.
    pub grace: Duration,
    /// How long the whole teardown may take, from the main closure's return, before another thread prints every coroutine
    /// and aborts the process. Default none: a coroutine that never waits holds its machine for ever.
    pub teardown: Option<Duration>,
    /// How many swallowed unwindings of one coroutine are thrown again before the process aborts. Default 100.
    pub swallows: u32,
    /// Bytes that a stream reads ahead when nobody reads it. Default 16 KiB; 0 is off.
    pub readahead: usize,
    /// How many unused buffers a machine keeps for its streams. Default 64.
    pub buffers: usize,
    /// How many bytes of readahead all streams of a machine hold at once. Default 64 MiB.
    pub readahead_limit: usize,
    /// How many bytes each direction of a relay holds, at most. Default 64 KiB.
    pub relay: usize,
    /// How long `accept` waits, at first and at most, when the process or the system is out of descriptors or memory.
    /// Default 5 ms and 1 s.
    pub accept_backoff: (Duration, Duration),
    /// How many calls one look whether something can be read may make, at least 1, before others have their turn. Default 16.
    pub look: u32,
    /// How long the end of a TLS stream may take to be sent, whatever deadlines and cancellations there are. Default 5 s.
    pub tls_close: Duration,
    /// How many threads a process has for blocking calls, at most. Default 16. The machine's that makes the first call counts.
    pub pool_threads: usize,
    /// How many blocking calls wait for a thread before their callers wait, at least 1. Default 256. As above.
    pub pool_queue: usize,
    /// After how long a thread for blocking calls ends that has none. Default 10 s. As above.
    pub pool_keep: Duration,
    /// How long the addresses of a name are taken from memory before they are asked for again; `getaddrinfo` does not tell how
    /// long they hold. Default 30 s; zero asks each time. The machine's that looks up the process's first name counts.
    pub dns_ttl: Duration,
    /// The same for the answer that there is no such name, or no address of it. Default 5 s. As above.
    pub dns_negative_ttl: Duration,
    /// How many names are remembered; the eldest answer goes first. Default 1,024. As above.
    pub dns_capacity: usize,
    /// How many names are looked up at once, at least 1, each on a thread of the pool for as long as that takes; others wait for
    /// their turn. Fewer than [`pool_threads`](Tuning::pool_threads), or name servers that do not answer hold up all that blocks.
    /// Default 8. As above.
    pub dns_lookups: usize,
    /// How long one address of several is given to connect before the next is tried beside it. Default 250 ms (RFC 8305).
    pub connect_delay: Duration,
    /// Which processors the machine's thread runs on. Default: none, which is all that it may.
    pub affinity: Vec<usize>,
    /// The least and the greatest size of the buffers of [messages](crate::Message) that a machine keeps for later ones; those between
    /// are doubled each time. A longer message has memory of its own, as long as it is. Default 128 bytes and 64 KiB.
    pub message_sizes: (usize, usize),
    /// How many bytes of unused buffers a machine keeps for its messages: the watermark above which they are freed. Default 4 MiB.
    pub message_cache: usize,
    /// How many bytes a [message](crate::Message) that is read from a stream may have, if its framing does not say. Default 16 MiB.
    pub message_limit: usize,
    /// How many bytes of a file one blocking call reads or writes, at least 1: so many are copied for it. Default 1 MiB.
    pub file_chunk: usize,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            stack_size: 256 << 10,
            stack_guard: 64 << 10,
            stack_limit: 1 << 20,
            stack_cache: 1024,
            stack_keep: 16 << 10,
            stack_sweep: Duration::from_secs(1),
            stack_trim: Duration::from_secs(1),
            stack_trim_batch: 64,
            stack_slab: 1024,
            big_stack_size: 8 << 20,
            big_stack_limit: 1024,
            big_stack_cache: 4,
            guards: Guards::Required,
            budget: 128,
            turns: 1024,
            events: 256,
            spin: Duration::ZERO,
            shuffle: None,
            preempt: false,
            timing: false,
            drain: Duration::ZERO,
            grace: Duration::from_secs(1),
            teardown: None,
            swallows: 100,
            readahead: 16 << 10,
            buffers: 64,
            readahead_limit: 64 << 20,
            relay: 64 << 10,
            accept_backoff: (Duration::from_millis(5), Duration::from_secs(1)),
            look: 16,
            tls_close: Duration::from_secs(5),
            pool_threads: 16,
            pool_queue: 256,
            pool_keep: Duration::from_secs(10),
            dns_ttl: Duration::from_secs(30),
            dns_negative_ttl: Duration::from_secs(5),
            dns_capacity: 1024,
            dns_lookups: 8,
            connect_delay: Duration::from_millis(250),
            affinity: Vec::new(),
            message_sizes: (128, 64 << 10),
            message_cache: 4 << 20,
            message_limit: 16 << 20,
            file_chunk: 1 << 20,
        }
    }
}

impl Tuning {
    /// With the address of the machine's label.
    pub(crate) fn stack_options(&self, owner: usize) -> StackOptions {
        StackOptions {
            owner,
            size: self.stack_size,
            guard: self.stack_guard,
            limit: self.stack_limit,
            cache: self.stack_cache,
            // Timer nodes point to the control blocks of unused stacks: those stay.
            keep: self.stack_keep.max(4096 + size_of::<Control>()),
            slab: self.stack_slab,
            guards: self.guards,
            control: size_of::<Control>(),
            ..StackOptions::default()
        }
    }

    pub(crate) fn message_limits(&self) -> Limits {
        let (least, greatest) = self.message_sizes;
        Limits { least, greatest, watermark: self.message_cache }
    }

    pub(crate) fn big_stack_options(&self) -> StackOptions {
        StackOptions {
            size: self.big_stack_size,
            guard: self.stack_guard,
            limit: self.big_stack_limit,
            cache: self.big_stack_cache,
            keep: self.stack_keep,
            slab: self.stack_slab,
            guards: self.guards,
            big: true,
            ..StackOptions::default()
        }
    }
}

fn whole_pages(bytes: usize) -> usize {
    let page = page();
    bytes.clamp(4 * page, 1 << 40).next_multiple_of(page)
}

/// Configures a machine before it runs.
///
/// ```
/// let result: std::io::Result<()> =
///     machinarium::Builder::new().name("main").stack_size(64 << 10).run(|| Ok(()));
/// result.unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(crate) name: String,
    pub(crate) tuning: Tuning,
}

impl Builder {
    /// The defaults of [`Tuning`].
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The machine's name, for reports; of a machine on its own thread also the thread's.
    pub fn name(mut self, name: &str) -> Builder {
        self.name = name.to_owned();
        self
    }

    /// Bytes of each coroutine's stack; rounded up to whole pages, at least four of them.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.tuning.stack_size = whole_pages(bytes);
        self
    }

    /// Bytes of each big stack (see [`on_big_stack`](crate::on_big_stack)); rounded up to whole pages, at least four of them.
    pub fn big_stack_size(mut self, bytes: usize) -> Builder {
        self.tuning.big_stack_size = whole_pages(bytes);
        self
    }

    /// How many coroutines there may be at once, at least 1.
    pub fn stack_limit(mut self, count: usize) -> Builder {
        self.tuning.stack_limit = count.max(1);
        self
    }

    /// What happens when a stack can have no guard page.
    pub fn guards(mut self, guards: Guards) -> Builder {
        self.tuning.guards = guards;
        self
    }

    /// How many operations a coroutine may do before it lets others run, at least 1.
    pub fn budget(mut self, operations: u32) -> Builder {
        self.tuning.budget = operations.max(1);
        self
    }

    /// How long an idle machine looks for work before it sleeps. It burns a processor for that long at each idle
    /// moment, and takes tens of microseconds off the time to answer.
    pub fn spin(mut self, duration: Duration) -> Builder {
        self.tuning.spin = duration;
        self
    }

    /// Draws the order among ready coroutines from a seed, so that a test can explore orders.
    pub fn shuffle(mut self, seed: u64) -> Builder {
        self.tuning.shuffle = Some(seed);
        self
    }

    /// Gives the processor away before each operation on what threads share, so that a test can explore orders.
    pub fn preempt(mut self, on: bool) -> Builder {
        self.tuning.preempt = on;
        self
    }

    /// Measures how long coroutines run, and how long they are ready before they do: see [`Tuning::timing`].
    pub fn timing(mut self, on: bool) -> Builder {
        self.tuning.timing = on;
        self
    }

    /// How long other coroutines may go on undisturbed after the main closure has returned.
    pub fn drain(mut self, duration: Duration) -> Builder {
        self.tuning.drain = duration;
        self
    }

    /// How long cancelled coroutines may take to end before they are unwound.
    pub fn grace(mut self, duration: Duration) -> Builder {
        self.tuning.grace = duration;
        self
    }

    /// How long the end of the machine may take as a whole, draining included, before another thread prints every
    /// coroutine and aborts the process: for a service that would rather be restarted than hang. Without it, a coroutine
    /// that never waits holds its machine for ever.
    pub fn teardown(mut self, limit: Duration) -> Builder {
        self.tuning.teardown = Some(limit);
        self
    }

    /// Which processors the machine's thread runs on. Machines that it starts run there too, if they are not given their own
    /// ([`spawn`](Self::spawn)), as threads do. When [`run`](Self::run) returns, its thread runs where it did before.
    pub fn affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Builder {
        self.tuning.affinity = processors.into_iter().collect();
        self
    }

    /// All limits at once.
    pub fn tuning(mut self, tuning: Tuning) -> Builder {
        self.tuning = tuning;
        self
    }

    /// [`run`](crate::run) with this configuration.
    ///
    /// # Errors
    /// As for `run`.
    pub fn run<T, E: From<io::Error>>(self, main: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        super::with_main(main, |main| super::run_outermost(self.tuning, &self.name, main))?
    }

    /// [`machine::spawn`](crate::machine::spawn()) with this configuration, of which it takes nothing from the machine that starts it.
    ///
    /// # Errors
    /// As for `machine::spawn`.
    ///
    /// ```
    /// let result: std::io::Result<()> = machinarium::run(|| {
    ///     let other = machinarium::Builder::new().name("other").affinity([0]).spawn(|| 40 + 2)?;
    ///     assert_eq!(other.join()?, 42);
    ///     Ok(())
    /// });
    /// result.unwrap();
    /// ```
    pub fn spawn<T: Send + 'static>(
        self,
        main: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Handle<T>> {
        let parent = current::machine().ok_or(Misuse::NoMachine)?;
        spawn_tuned(parent, &self.name, self.tuning, main)
    }
}
