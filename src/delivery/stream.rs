//! The bytes of a connection, with or without TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::http::RESPONSE_BYTES_MAX;

/// Longest head of a response, to within what one read brings.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most bytes that are read after a request: a head, a body up to its limit, and as much again for
/// what is read ahead and for the marks between chunks. Without it a flood of interim responses, each
/// of them short, would end with the time of the call alone, and reading them holds up every other
/// call of the thread.
const ANSWER_BYTES_MAX: usize = 2 * (HEAD_BYTES_MAX + RESPONSE_BYTES_MAX);

/// A connection that requests can go over.
pub(super) enum Stream {
    /// Without TLS. Requests to an HTTP proxy name the whole URL.
    Plain {
        tcp: TokioIo<Bounded<TcpStream>>,
        to_proxy: bool,
    },
    /// With TLS, to the callback itself.
    Tls(Box<TokioIo<Bounded<TlsStream<TcpStream>>>>),
}

impl Stream {
    /// A connection without TLS, to the callback or to an HTTP proxy that takes requests itself.
    pub(super) fn plain(tcp: TcpStream, to_proxy: bool) -> Self {
        Self::Plain {
            tcp: TokioIo::new(Bounded::new(tcp)),
            to_proxy,
        }
    }

    /// A connection with TLS.
    pub(super) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(TokioIo::new(Bounded::new(tls))))
    }

    /// The connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain { tcp, .. } => &tcp.inner().io,
            Self::Tls(tls) => tls.inner().io.get_ref().0,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let to_proxy = matches!(self, Self::Plain { to_proxy: true, .. });
        self.tcp().connected().proxy(to_proxy)
    }
}

impl rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl rt::Write for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain { tcp, .. } => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write_vectored(context, parts),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, parts),
        }
    }
}

/// A connection that fails once more has come over it than any answer needs.
pub(super) struct Bounded<T> {
    io: T,
    /// Bytes that came since the last were sent.
    came: usize,
}

/// More came than any answer needs.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("more than {ANSWER_BYTES_MAX} bytes came for one request")]
struct TooMuch;

impl<T> Bounded<T> {
    const fn new(io: T) -> Self {
        Self { io, came: 0 }
    }

    /// What was sent begins a new answer.
    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.came = 0;
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.came > ANSWER_BYTES_MAX {
            let error = io::Error::new(io::ErrorKind::InvalidData, TooMuch);
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        this.came += buffer.filled().len() - before;
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.sent(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(context, parts);
        this.sent(written)
    }
}
