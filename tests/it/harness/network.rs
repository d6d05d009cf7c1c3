//! A network between two that can stall and be cut, and one that loses a peer.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    time::Duration,
};

use socket2::{SockFilter, SockRef, Socket};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};
use tokio_rustls::client::TlsStream;

/// What the network does with connections and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Passes them on.
    Whole,
    /// Takes and keeps them.
    Stalled,
    /// Resets them.
    Cut,
}

/// A relay of TCP on this machine. Its connections end with it.
pub struct Network {
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

impl Network {
    /// A way to `peer`.
    pub async fn to(peer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State::Whole);
        tokio::spawn(async move {
            let mut end = watched.clone();
            loop {
                tokio::select! {
                    Ok((near, _)) = listener.accept() => {
                        tokio::spawn(relay(near, peer, watched.clone()));
                    }
                    _ = end.wait_for(|_| false) => return,
                }
            }
        });
        Self { address, state }
    }

    /// From now on nothing comes through, and nobody is told.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalled);
    }

    /// Resets all connections, and each new one.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Everything comes through again, and what was kept while it stalled.
    pub fn restore(&self) {
        self.state.send_replace(State::Whole);
    }
}

/// Passes bytes on in both directions until one end is done, or the network is cut or gone.
async fn relay(near: TcpStream, peer: SocketAddr, state: watch::Receiver<State>) {
    prepare(&near);
    let mut ended = state.clone();
    let work = async {
        let mut started = state.clone();
        if started.wait_for(|state| *state == State::Whole).await.is_err() {
            return;
        }
        let Ok(far) = TcpStream::connect(peer).await else { return };
        prepare(&far);
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::select! {
            () = pass_on(near_read, far_write, state.clone()) => {}
            () = pass_on(far_read, near_write, state) => {}
        }
    };
    tokio::select! {
        () = work => {}
        _ = ended.wait_for(|state| *state == State::Cut) => {}
    }
}

/// Nothing is held back, and a connection that is dropped is reset: its peer learns of it at once.
fn prepare(connection: &TcpStream) {
    let _ = connection.set_nodelay(true);
    let _ = SockRef::from(connection).set_linger(Some(Duration::ZERO));
}

async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| *state == State::Whole).await.is_err()
            || to.write_all(&buffer[..read]).await.is_err()
        {
            return;
        }
    }
}

/// What a client's connection goes through, and stays open through, whatever becomes of the client.
pub struct Line(Socket);

impl Line {
    pub fn of(stream: &TlsStream<TcpStream>) -> Self {
        Self(SockRef::from(stream.get_ref().0).try_clone().unwrap())
    }

    /// From now on nothing that the server sends arrives: as if the host of the client had lost its
    /// power, nothing is acknowledged, reset or ended.
    pub fn lose(&self) {
        const RETURN: u16 = 0x06;
        // So many bytes are kept of whatever comes.
        const NOTHING: u32 = 0;
        self.0.attach_filter(&[SockFilter::new(RETURN, 0, 0, NOTHING)]).unwrap();
    }

    /// Asserts that the client's side has heard of no end.
    pub fn assert_unaware(&self) {
        let mut buffer = [0; 64 << 10];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                end => panic!("the client knows that its connection has ended: {end:?}"),
            }
        }
    }
}

impl Drop for Line {
    /// Resets the connection, so that the operating system does not try for minutes to end it.
    fn drop(&mut self) {
        let _ = self.0.detach_filter();
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}
