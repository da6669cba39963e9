//! Streams through the traits of futures-io and of tokio.

use futures_util::io as futures;
use futures_util::{AsyncReadExt, AsyncWriteExt};

use super::{Error, SHORT, TcpStream, UnixStream, block_on, both, bytes, spawn, tcp, tls};
use machinarium::machine::{self, Resident};
use machinarium::{Misuse, future};

const SIZE: usize = 300_000;

/// Each side writes and reads at once, in one task, more than the system holds.
fn futures_exchange<S>(ours: S, theirs: S) -> Result<(), Error>
where
    S: futures::AsyncRead + futures::AsyncWrite + Unpin + 'static,
{
    let talk = async |stream: S| {
        let (mut reader, mut writer) = stream.split();
        let write = async {
            writer.write_all(&bytes(SIZE)).await?;
            writer.close().await
        };
        let mut came = Vec::new();
        let (written, read) = futures_util::future::join(write, reader.read_to_end(&mut came)).await;
        written?;
        read?;
        assert!(came == bytes(SIZE));
        Ok::<(), std::io::Error>(())
    };
    let other = spawn(move || block_on(talk(theirs)));
    block_on(talk(ours))??;
    Ok(other.join()???)
}

#[test]
fn futures_io() {
    both(|| {
        let (ours, theirs) = tcp()?;
        futures_exchange(ours, theirs)?;
        let (ours, theirs) = UnixStream::pair()?;
        futures_exchange(ours, theirs)?;
        let (ours, theirs) = tls(&[])?;
        futures_exchange(ours, theirs)
    });
}

async fn tokio_exchange<S>(ours: S, mut theirs: S) -> Result<(), Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    // A proxy of tokio's between an echo and whoever talks to it.
    let (mut middle, echo) = UnixStream::pair()?;
    let echoing = spawn(move || std::io::copy(&mut &echo, &mut &echo));
    let proxying =
        spawn(move || block_on(async { tokio::io::copy_bidirectional(&mut theirs, &mut middle).await }));
    let (mut reader, mut writer) = tokio::io::split(ours);
    let write = async {
        tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes(SIZE)).await?;
        tokio::io::AsyncWriteExt::shutdown(&mut writer).await
    };
    let mut came = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut came);
    let (written, read) = futures_util::future::join(write, read).await;
    written?;
    read?;
    assert!(came == bytes(SIZE));
    assert_eq!(proxying.await???, (SIZE as u64, SIZE as u64));
    // It ends when the proxy's end of it is gone.
    assert_eq!(echoing.await??, SIZE as u64);
    Ok(())
}

#[test]
fn tokio_io() {
    both(|| {
        let (ours, theirs) = tcp()?;
        block_on(tokio_exchange(ours, theirs))??;
        let (ours, theirs) = tls(&[])?;
        block_on(tokio_exchange(ours, theirs))??;
        let (ours, theirs) = tcp()?;
        block_on(tokio_exchange(Resident::new(ours)?, Resident::new(theirs)?))?
    });
}

/// A stream in a `Resident` goes to another machine and is an error there; dropped there, it is closed at home.
#[test]
fn a_resident_stream_stays() {
    both(|| {
        let (ours, theirs) = tcp()?;
        let ours = Resident::new(ours)?;
        let other = machine::spawn("other", move || {
            let mut ours = ours;
            let error = block_on(ours.read(&mut [0; 1])).unwrap().unwrap_err();
            assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&Misuse::OtherMachine));
            assert!(ours.get_mut().is_err());
            let ours = ours.into_inner().unwrap_err();
            assert_eq!(format!("{ours:?}"), "Resident(elsewhere)");
        })?;
        other.join()?;
        assert_eq!(theirs.read_exact(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);

        // One that comes home is what it was.
        let (ours, theirs) = tcp()?;
        let ours = Resident::new(ours)?;
        let back = machine::spawn("other", move || ours)?.join()?;
        let ours: TcpStream = back.into_inner().map_err(|_| "it is at home")?;
        theirs.write_all(b"x")?;
        ours.read_exact(&mut [0; 1])?;
        block_on(future::sleep(SHORT))??;
        Ok(())
    });
}
