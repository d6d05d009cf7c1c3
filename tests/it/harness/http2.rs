//! HTTP/2 as far as its frames: no library between a test and what the server says, or is told.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, ReadHalf, WriteHalf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::process::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const NO_ERROR: u32 = 0;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The settings that a test may want to change.
pub const INITIAL_WINDOW_SIZE: u8 = 4;

/// `:status: 200`, with which the header block of a response begins.
pub const STATUS_200: &[u8] = &[0x88];

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn error_code(&self) -> u32 {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => panic!("no error code: {self:?}"),
        };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// RST_STREAM with CANCEL: what a client sends that has changed its mind.
pub fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// HEADERS and DATA of a POST.
pub fn post(stream: u32, body: &str) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &post_headers());
    // The largest frame that everybody takes.
    for chunk in body.as_bytes().chunks(16 << 10) {
        bytes.extend(frame(DATA, 0, stream, chunk));
    }
    bytes.extend(frame(DATA, END_STREAM, stream, &[]));
    bytes
}

/// The header block of a POST.
pub fn post_headers() -> Vec<u8> {
    // `:method: POST`, `:scheme: https` and `:path: /` are in the static table, and `:authority`
    // without its value.
    let mut block = vec![0x83, 0x87, 0x84, 0x01];
    block.extend(string("localhost"));
    block
}

/// A header that leaves the dynamic table alone.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A string of HPACK, as it is.
pub fn string(text: &str) -> Vec<u8> {
    let mut bytes = match u8::try_from(text.len()) {
        Ok(length @ ..127) => vec![length],
        _ => {
            let mut bytes = vec![127];
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
            bytes
        }
    };
    bytes.extend(text.as_bytes());
    bytes
}

/// A connection of HTTP/2. It waits for nothing longer than [`PATIENCE`].
pub struct Http2 {
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: BufWriter<WriteHalf<TlsStream<TcpStream>>>,
    kept: Vec<Frame>,
}

impl Http2 {
    pub async fn start(stream: TlsStream<TcpStream>) -> Self {
        Self::start_with(stream, &[]).await
    }

    /// The same with settings: identifiers with their values.
    pub async fn start_with(stream: TlsStream<TcpStream>, settings: &[(u8, u32)]) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let mut connection = Self { reader, writer: BufWriter::new(writer), kept: Vec::new() };
        let settings = settings.iter().flat_map(|(id, value)| {
            let mut setting = vec![0, *id];
            setting.extend(value.to_be_bytes());
            setting
        });
        let settings = frame(SETTINGS, 0, 0, &settings.collect::<Vec<_>>());
        connection.send(&[PREFACE, &settings].concat()).await.unwrap();
        while connection.frame().await.unwrap().kind != SETTINGS {}
        connection
    }

    /// Writes bytes, whatever they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        })
        .await?
    }

    /// The next frame, confirmed if it wants to be.
    pub async fn frame(&mut self) -> io::Result<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.reader.read_exact(&mut head).await?;
            let [high, middle, low, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, high, middle, low]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.reader.read_exact(&mut payload).await?;
            Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
        };
        let received: io::Result<Frame> = timeout(PATIENCE, read).await?;
        let received = received?;
        if received.flags & ACK == 0 {
            let answer = match received.kind {
                SETTINGS => frame(SETTINGS, ACK, 0, &[]),
                PING => frame(PING, ACK, 0, &received.payload),
                _ => return Ok(received),
            };
            // A server that says goodbye may not listen any more.
            let _ = self.send(&answer).await;
        }
        Ok(received)
    }

    /// The next frame of this kind.
    pub async fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.unwrap();
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads until a stream has been answered whole: its header block, and the body. What comes
    /// for other streams meanwhile is kept for the next who asks.
    pub async fn answer(&mut self, stream: u32) -> (Vec<u8>, String) {
        let (mut headers, mut body) = (Vec::new(), Vec::new());
        let mut earlier = std::mem::take(&mut self.kept).into_iter();
        loop {
            let frame = match earlier.next() {
                Some(frame) => frame,
                None => self.frame().await.unwrap(),
            };
            if frame.stream != stream {
                self.kept.push(frame);
                continue;
            }
            let is_last = frame.flags & END_STREAM != 0;
            match frame.kind {
                HEADERS => headers = frame.payload,
                DATA => body.extend(frame.payload),
                _ => panic!("{frame:?}"),
            }
            if is_last {
                self.kept.extend(earlier);
                return (headers, String::from_utf8(body).unwrap());
            }
        }
    }

    /// Reads until the server has ended the connection: what it said in GOAWAY last, if anything.
    pub async fn end(&mut self) -> Option<u32> {
        let mut said = None;
        loop {
            match self.frame().await {
                Ok(frame) if frame.kind == GOAWAY => said = Some(frame.error_code()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("it does not end"),
                Err(_) => return said,
            }
        }
    }
}
