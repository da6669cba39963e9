//! A new configuration, on all machines or on none; and what else is done on all of them.

use std::sync::Arc;

use machinarium::machine::Remote;

use crate::config::Config;
use crate::pooler::Pooler;

/// Reads the configuration again and takes it.
///
/// # Errors
/// Why the one before stays.
pub(crate) fn reload() -> Result<String, String> {
    let pooler = Pooler::here();
    let (before, new) = (pooler.config(), (pooler.common.reload)()?);
    let fixed = unchanged(&before, &new);
    // What only a restart can change stays as it is.
    let (listen, unix, metrics) = (before.listen, before.unix.clone(), before.metrics);
    let (machines, max_clients) = (before.machines, before.max_clients);
    let config = Arc::new(Config { listen, unix, metrics, machines, max_clients, ..new });
    for result in on_all(&pooler.common.machines, move |pooler| pooler.reload(&config)) {
        result.map_err(|error| error.to_string())?;
    }
    Ok(match fixed.as_slice() {
        [] => "the configuration was read again".to_owned(),
        fixed => format!("the configuration was read again; only a restart changes {}", fixed.join(", ")),
    })
}

/// Tells whoever runs it.
pub(crate) fn say(result: &Result<String, String>) {
    Pooler::here().say(&match result {
        Ok(done) => done.clone(),
        Err(why) => format!("what was read before stays: {why}"),
    });
}

fn unchanged(before: &Config, new: &Config) -> Vec<&'static str> {
    let differ = [
        ("listen", before.listen != new.listen),
        ("unix", before.unix != new.unix),
        ("metrics", before.metrics != new.metrics),
        ("machines", before.machines != new.machines),
        ("max_clients", before.max_clients != new.max_clients),
    ];
    differ.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
}

/// Calls `f` on all machines, one after the other; what they say. One that has ended says nothing.
pub(crate) fn on_all<T: Send + 'static>(
    machines: &[Remote],
    f: impl Fn(&Pooler) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let ask = |machine: &Remote| {
        let f = f.clone();
        machine.spawn(move || f(&Pooler::here())).ok()?.join().ok()
    };
    machines.iter().filter_map(ask).collect()
}
