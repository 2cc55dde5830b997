//! A callback that speaks raw TCP and breaks the rules it is told to break.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

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
