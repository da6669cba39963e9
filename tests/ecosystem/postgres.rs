//! tokio-postgres by `connect_raw`, without tokio's runtime. Its server here says what it must, and no more.

use super::{Error, block_on, both, spawn, tcp};
use machinarium::net::TcpStream;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// What the client says next, but its first word.
fn hear(stream: &TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

/// Trusts everybody, and answers every question with its own text.
fn server(stream: TcpStream) -> Result<(), Error> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut startup)?;
    assert!(startup.windows(4).any(|word| word == b"erna"));
    let ready = message(b'Z', b"I");
    stream.write_all(&[message(b'R', &[0; 4]), ready.clone()].concat())?;
    loop {
        let (kind, body) = hear(&stream)?;
        if kind == b'X' {
            return Ok(());
        }
        assert_eq!(kind, b'Q');
        let text = &body[..body.len() - 1];
        let column =
            [b"\0\x01q\0".as_slice(), &[0; 6], &25u32.to_be_bytes(), &[0xff, 0xff], &[0xff; 4], &[0, 0]];
        let row = [b"\0\x01".as_slice(), &(text.len() as u32).to_be_bytes(), text];
        let answer = [
            message(b'T', &column.concat()),
            message(b'D', &row.concat()),
            message(b'C', b"SELECT 1\0"),
            ready.clone(),
        ];
        stream.write_all(&answer.concat())?;
    }
}

#[test]
fn tokio_postgres() {
    both(|| {
        let (ours, theirs) = tcp()?;
        let serving = spawn(move || server(theirs));
        block_on(async {
            let mut config = Config::new();
            config.user("erna").dbname("notes");
            let (client, connection) = config.connect_raw(ours, NoTls).await?;
            let connection = spawn(move || block_on(connection));
            for question in ["SELECT 1", "SELECT 'two'"] {
                let answers = client.simple_query(question).await?;
                let told = answers.iter().find_map(|answer| match answer {
                    SimpleQueryMessage::Row(row) => row.get(0),
                    _ => None,
                });
                assert_eq!(told, Some(question));
            }
            drop(client);
            connection.await???;
            Ok::<(), Error>(())
        })??;
        serving.join()?
    });
}
