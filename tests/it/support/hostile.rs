//! A callback that speaks raw TCP and breaks the rules it is told to break.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

/// What may leave a pouring server before its connection is dropped: at most 512 KiB are read, of TLS,
/// and a read brings 64 KiB more. The gateway's side of a connection holds 128 KiB, and so does this
/// one, each with a packet of 64 KiB beyond. That is 900 KiB, wherever systems count alike.
pub(crate) const LEFT_MAX: u64 = 2 << 20;

/// What a connection holds of what is sent and not taken; the system doubles it.
const UNSENT_BYTES: usize = 64 << 10;

/// A server on a free port of 127.0.0.1 that hands each connection to a function.
pub(crate) struct Hostile {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Hostile {
    /// Starts it.
    pub(crate) async fn start<F, Fut>(misbehave: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                // The other side may be gone already. A part that is not a whole packet would wait
                // until the one before it is acknowledged.
                let _ = set_socket_send_buffer_size(&stream, UNSENT_BYTES);
                drop(stream.set_nodelay(true));
                running.spawn(misbehave(stream));
            }
        });
        Self {
            address,
            connections,
            accepting,
        }
    }

    /// One that reads a request, writes these bytes and closes.
    pub(crate) async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                read_request(&mut stream).await;
                // The client may have had enough before everything is written.
                drop(stream.write_all(&bytes).await);
            }
        })
        .await
    }

    /// One that answers each request with these bytes, on connections that stay.
    pub(crate) async fn repeating(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                while !read_request(&mut stream).await.is_empty() {
                    drop(stream.write_all(&bytes).await);
                }
            }
        })
        .await
    }

    /// One that takes whatever comes and says nothing.
    pub(crate) async fn mute() -> Self {
        Self::start(listen_only).await
    }

    /// One that answers the first bytes with these, and then drips more for ever.
    pub(crate) async fn dripping(start: impl Into<Vec<u8>>) -> Self {
        let start = start.into();
        Self::start(move |stream| drip(stream, start.clone())).await
    }

    /// One that answers the first bytes with these, and then pours out `part` as fast as it is
    /// taken, until the other side is gone or has taken `most` bytes. Tells of each connection what
    /// left by then.
    pub(crate) async fn pouring(
        start: impl Into<Vec<u8>>,
        part: impl Into<Vec<u8>>,
        most: u64,
    ) -> (Self, mpsc::Receiver<u64>) {
        let (start, part) = (start.into(), part.into());
        let (told, heard) = mpsc::channel(1);
        let server = Self::start(move |stream| {
            let (start, part, told) = (start.clone(), part.clone(), told.clone());
            async move {
                let left = pour(stream, start, part, most).await;
                // Nobody may have asked.
                let _ = told.send(left).await;
            }
        });
        (server.await, heard)
    }

    /// Answers each connection's first request with 204, and tells its head.
    pub(crate) async fn accepting() -> (Self, mpsc::Receiver<String>) {
        let (told, heard) = mpsc::channel(1);
        let server = Self::start(move |mut stream| {
            let told = told.clone();
            async move {
                told.send(read_request(&mut stream).await).await.unwrap();
                let answer = "HTTP/1.1 204 No Content\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (server.await, heard)
    }

    /// Says nothing, and tells all that came over a connection once the other side has closed it.
    pub(crate) async fn silent() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (told, heard) = mpsc::channel(1);
        let server = Self::start(move |mut stream| {
            let told = told.clone();
            async move {
                let mut bytes = Vec::new();
                drop(stream.read_to_end(&mut bytes).await);
                told.send(bytes).await.unwrap();
            }
        });
        (server.await, heard)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// How many connections it got.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An address at which connections neither stand nor fail.
pub(crate) struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens it: a full backlog drops further connections.
    pub(crate) async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        let patience = Duration::from_millis(100);
        while let Ok(Ok(stream)) = timeout(patience, TcpStream::connect(address)).await {
            filling.push(stream);
        }
        Self {
            address,
            _listener: listener,
            _filling: filling,
        }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }
}

/// A port at which nobody listens, and which nobody else is given meanwhile.
pub(crate) struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// Takes one.
    pub(crate) fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.0.local_addr().unwrap())
    }
}

/// How many zeros a [`bomb`] holds.
pub(crate) const BOMB_BYTES: usize = BOMB_PARTS * 8 * 258;

/// 256 MiB.
const BOMB_PARTS: usize = (256 << 20) / (8 * 258) + 1;

/// A body in gzip that is a hundredth and less of what it expands to: a zero, and then again and
/// again "258 times what was last", eight of them in thirteen bytes. Its end is missing.
pub(crate) fn bomb() -> Vec<u8> {
    let head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\x63";
    let part = b"\x18\x05\xa3\x60\x14\x8c\x82\x51\x30\x0a\x46\xc1\x28";
    [&head[..], &part.repeat(BOMB_PARTS)].concat()
}

/// Takes whatever comes and says nothing.
async fn listen_only(mut stream: TcpStream) {
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
}

/// Answers the first bytes with these, and then drips more for ever.
async fn drip(mut stream: TcpStream, start: Vec<u8>) {
    drop(stream.read(&mut [0; 4096]).await);
    if stream.write_all(&start).await.is_err() {
        return;
    }
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while stream.write_all(b"a").await.is_ok() {
        pace.tick().await;
    }
}

/// Answers the first bytes with these, and then pours out `part`, as fast as it is taken. Gives how
/// many bytes left.
async fn pour(mut stream: TcpStream, start: Vec<u8>, part: Vec<u8>, most: u64) -> u64 {
    drop(stream.read(&mut [0; 4096]).await);
    let mut left = 0;
    let mut next = &start;
    while left < most && stream.write_all(next).await.is_ok() {
        left += next.len() as u64;
        next = &part;
    }
    left
}

/// Reads one request whole and gives its head.
pub(crate) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length = length.map_or(0, |length| length.trim().parse().unwrap());
            if bytes.len() >= head + 4 + length {
                return String::from_utf8_lossy(&bytes[..head]).into_owned();
            }
        }
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => return String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

/// Breaks the connection with a reset instead of an orderly end.
pub(crate) fn reset(stream: &TcpStream) {
    stream.set_zero_linger().unwrap();
}
