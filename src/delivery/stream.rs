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

/// Most bytes that are read below TLS after a request, or before the first: a handshake, or an answer
/// and what its records add. Without it session tickets without end, of which nothing arrives above
/// TLS, would keep the thread busy for as long as they come, also on a connection that is idle.
const RECORDS_BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;

/// A connection that requests can go over.
pub(super) enum Stream {
    /// Without TLS. Requests to an HTTP proxy name the whole URL.
    Plain {
        tcp: TokioIo<Bounded<TcpStream>>,
        to_proxy: bool,
    },
    /// With TLS, to the callback itself.
    Tls(Box<TokioIo<Bounded<TlsStream<Bounded<TcpStream>>>>>),
}

impl Stream {
    /// A connection without TLS, to the callback or to an HTTP proxy that takes requests itself.
    pub(super) fn plain(tcp: TcpStream, to_proxy: bool) -> Self {
        Self::Plain {
            tcp: TokioIo::new(Bounded::new(tcp, ANSWER_BYTES_MAX)),
            to_proxy,
        }
    }

    /// A connection with TLS.
    pub(super) fn tls(tls: TlsStream<Bounded<TcpStream>>) -> Self {
        Self::Tls(Box::new(TokioIo::new(Bounded::new(tls, ANSWER_BYTES_MAX))))
    }

    /// The connection below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain { tcp, .. } => &tcp.inner().io,
            Self::Tls(tls) => &tls.inner().io.get_ref().0.io,
        }
    }

    /// What was sent begins a new answer. What TLS sends by itself does not: a flood may ask for it.
    fn sent(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            match self {
                Self::Plain { tcp, .. } => tcp.inner_mut().came = 0,
                Self::Tls(tls) => {
                    let tls = tls.inner_mut();
                    tls.came = 0;
                    tls.io.get_mut().0.came = 0;
                }
            }
        }
        written
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
        let this = self.get_mut();
        let written = match this {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write(context, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        };
        this.sent(written)
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
        let this = self.get_mut();
        let written = match this {
            Self::Plain { tcp, .. } => Pin::new(tcp).poll_write_vectored(context, parts),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, parts),
        };
        this.sent(written)
    }
}

/// A connection that fails once more has come over it than any answer needs, and not by a write to who
/// has closed it: that may have answered before.
pub(super) struct Bounded<T> {
    io: T,
    /// Most bytes that may come for one request.
    max: usize,
    /// Bytes that came since the last of a request were sent.
    came: usize,
}

/// More came than any answer needs.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("more than {max} bytes came for one request")]
pub(super) struct TooMuch {
    max: usize,
}

impl Bounded<TcpStream> {
    /// What TLS reads from.
    pub(super) const fn below_tls(tcp: TcpStream) -> Self {
        Self::new(tcp, RECORDS_BYTES_MAX)
    }
}

impl<T> Bounded<T> {
    const fn new(io: T, max: usize) -> Self {
        Self { io, max, came: 0 }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.came > this.max {
            let error = TooMuch { max: this.max };
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
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
        let written = Pin::new(&mut self.get_mut().io).poll_write(context, bytes);
        or_lost(written, bytes.len())
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
        let written = Pin::new(&mut self.get_mut().io).poll_write_vectored(context, parts);
        or_lost(written, parts.iter().map(|part| part.len()).sum())
    }
}

/// What is written to who has closed the connection is lost, and no failure yet. A callback may refuse a
/// large message as soon as it has the head of it, and close: a failed write would drop that answer
/// unread, and the message would be sent again. Whoever reads next finds the answer, or the end.
fn or_lost(written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
    match written {
        Poll::Ready(Err(error)) if is_closed(&error) => Poll::Ready(Ok(length)),
        written => written,
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn an_answer_is_read_though_the_other_side_closed_before_it_had_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(ours, listener.accept());
        let (mut ours, (mut theirs, _)) = (Bounded::below_tls(ours.unwrap()), theirs.unwrap());
        ours.write_all(b"begun").await.unwrap();
        theirs.readable().await.unwrap();
        theirs.write_all(b"answer").await.unwrap();
        // With something unread, which resets the connection.
        drop(theirs);
        // The second is refused even where the first was faster than the reset.
        for _ in 0..2 {
            ours.write_all(b"the rest").await.unwrap();
        }
        let mut answer = [0; 6];
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        let end = ours.read(&mut answer).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}
