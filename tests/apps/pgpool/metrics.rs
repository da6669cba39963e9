//! What Prometheus is told: HTTP/1.0, one answer to whatever is asked, which needs no more of HTTP than that.

use std::fmt::Write;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use machinarium::net::TcpStream;
use machinarium::{Group, Listening, timeout};

use crate::pooler::Pooler;
use crate::reload::on_all;

/// How long one who asks may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest question.
const LONGEST: u64 = 8 << 10;

/// Name, type, meaning.
const METRICS: [(&str, &str, &str); 9] = [
    ("transactions_total", "counter", "Transactions that have ended."),
    ("queries_total", "counter", "Answers of servers that were complete."),
    ("received_bytes_total", "counter", "Bytes from clients to servers."),
    ("sent_bytes_total", "counter", "Bytes from servers to clients."),
    ("waits_total", "counter", "How often a client had to wait for a server connection."),
    ("wait_seconds_total", "counter", "How long clients have waited for server connections."),
    ("servers", "gauge", "Server connections."),
    ("servers_idle", "gauge", "Server connections that nobody has."),
    ("clients_waiting", "gauge", "Clients that wait for a server connection."),
];

/// Listens for those who ask.
pub(crate) fn listen(address: SocketAddr, group: &Group) -> io::Result<Listening> {
    let listener = machinarium::net::TcpListener::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} for metrics: {error}"))
    })?;
    group.hand_over(
        move || listener.accept(),
        |stream, _| {
            // Whoever asks sees what has become of it.
            let _ = timeout(PATIENCE, || answer(&stream));
        },
    )
}

fn answer(stream: &TcpStream) -> io::Result<()> {
    let mut question = Vec::new();
    let mut limited = stream.take(LONGEST);
    while !question.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        match limited.read(&mut buffer)? {
            0 => return Ok(()),
            count => question.extend(&buffer[..count]),
        }
    }
    let is_known = question.starts_with(b"GET /metrics ") || question.starts_with(b"GET / ");
    let (status, body) =
        if is_known { ("200 OK", text()) } else { ("404 Not Found", "try /metrics\n".to_owned()) };
    let length = body.len();
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)
}

fn text() -> String {
    let pooler = Pooler::here();
    let samples = on_all(&pooler.common.machines, samples).concat();
    let mut text = format!("# TYPE pgpool_clients gauge\npgpool_clients {}\n", pooler.common.places.count());
    for (number, (name, kind, meaning)) in METRICS.iter().enumerate() {
        write!(text, "# HELP pgpool_{name} {meaning}\n# TYPE pgpool_{name} {kind}\n")
            .expect("a text takes all");
        for (labels, values) in &samples {
            writeln!(text, "pgpool_{name}{{{labels}}} {}", values[number]).expect("a text takes all");
        }
    }
    text
}

/// The labels of each pool of this machine, and its values in the order of the metrics.
fn samples(pooler: &Pooler) -> Vec<(String, [String; METRICS.len()])> {
    let sample = |pool: &std::rc::Rc<crate::pool::Pool>| {
        let stats = &pool.stats;
        let labels = format!(
            "database=\"{}\",user=\"{}\",machine=\"{}\"",
            escape(&pool.database),
            escape(&pool.user),
            pooler.index()
        );
        let values = [
            stats.transactions.get().to_string(),
            stats.queries.get().to_string(),
            stats.received.get().to_string(),
            stats.sent.get().to_string(),
            stats.waits.get().to_string(),
            stats.wait.get().as_secs_f64().to_string(),
            pool.total().to_string(),
            pool.idle().to_string(),
            pool.waiting().to_string(),
        ];
        (labels, values)
    };
    pooler.pools().iter().map(sample).collect()
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
