//! A network between two that can lose every packet or be cut, and one that loses a peer.

use std::{
    io::{self, Read as _},
    net::SocketAddr,
    sync::{Arc, Mutex},
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
    /// Loses every packet: nothing is acknowledged, and no connection is made.
    Stalled,
    /// Resets them.
    Cut,
}

/// A relay of TCP on this machine. Its connections end with it.
pub struct Network {
    pub address: SocketAddr,
    peer: SocketAddr,
    listener: Socket,
    state: watch::Sender<State>,
    sent: Sent,
}

/// What was passed on to the peer.
type Sent = Arc<Mutex<Vec<u8>>>;

impl Network {
    /// A way to `peer`.
    pub async fn to(peer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = SockRef::from(&listener).try_clone().unwrap();
        let (state, watched) = watch::channel(State::Whole);
        let sent = Sent::default();
        let network = Self { address, peer, listener: socket, state, sent: Arc::clone(&sent) };
        tokio::spawn(async move {
            let mut end = watched.clone();
            loop {
                tokio::select! {
                    Ok((near, _)) = listener.accept() => {
                        tokio::spawn(relay(near, peer, watched.clone(), Arc::clone(&sent)));
                    }
                    _ = end.wait_for(|_| false) => return,
                }
            }
        });
        network
    }

    /// A URL of the peer, changed so that it leads over this network.
    pub fn redirect(&self, url: &str) -> String {
        url.replace(&self.peer.to_string(), &self.address.to_string())
    }

    /// What was passed on to the peer since this was asked last, on all connections, in order.
    pub fn take_sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// From now on every packet is lost, and nobody is told. A peer that hangs is another matter:
    /// its system still makes connections and acknowledges.
    pub fn stall(&self) {
        lose(&self.listener);
        self.state.send_replace(State::Stalled);
    }

    /// Resets all connections, and each new one.
    pub fn cut(&self) {
        hear(&self.listener);
        self.state.send_replace(State::Cut);
    }

    /// Packets arrive again: those that are sent from now on, or once more.
    pub fn restore(&self) {
        hear(&self.listener);
        self.state.send_replace(State::Whole);
    }
}

/// Passes bytes on in both directions until one end is done, or the network is cut or gone.
async fn relay(near: TcpStream, peer: SocketAddr, state: watch::Receiver<State>, sent: Sent) {
    prepare(&near);
    let near_weather = weather(&near, state.clone());
    let mut ended = state.clone();
    let work = async {
        let mut started = state.clone();
        if started.wait_for(|state| *state == State::Whole).await.is_err() {
            return;
        }
        let Ok(far) = TcpStream::connect(peer).await else { return };
        prepare(&far);
        let far_weather = weather(&far, state.clone());
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::select! {
            () = pass_on(near_read, far_write, state.clone(), Some(sent)) => {}
            () = pass_on(far_read, near_write, state, None) => {}
            () = far_weather => {}
        }
    };
    tokio::select! {
        () = work => {}
        () = near_weather => {}
        _ = ended.wait_for(|state| *state == State::Cut) => {}
    }
}

/// Has a connection lose what arrives, whenever the network does; until that is gone.
fn weather(
    connection: &TcpStream,
    mut state: watch::Receiver<State>,
) -> impl Future<Output = ()> + use<> {
    let socket = SockRef::from(connection).try_clone().unwrap();
    async move {
        loop {
            match *state.borrow_and_update() {
                State::Stalled => lose(&socket),
                State::Whole | State::Cut => hear(&socket),
            }
            if state.changed().await.is_err() {
                return;
            }
        }
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
    passed: Option<Sent>,
) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| *state == State::Whole).await.is_err() {
            return;
        }
        if let Some(passed) = &passed {
            passed.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// From now on no packet arrives at a socket: nothing is acknowledged, reset or ended, and where it
/// listens no connection is made.
fn lose(socket: &Socket) {
    const RETURN: u16 = 0x06;
    // So many bytes are kept of whatever comes.
    const NOTHING: u32 = 0;
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, NOTHING)]).unwrap();
}

/// Packets arrive again, if they did not.
fn hear(socket: &Socket) {
    let _ = socket.detach_filter();
}

/// What a client's connection goes through, and stays open through, whatever becomes of the client.
pub struct Line(Socket);

impl Line {
    pub fn of(stream: &TlsStream<TcpStream>) -> Self {
        Self(SockRef::from(stream.get_ref().0).try_clone().unwrap())
    }

    /// From now on nothing that the server sends arrives: as if the host of the client had lost its
    /// power.
    pub fn lose(&self) {
        lose(&self.0);
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
        hear(&self.0);
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}
