//! The two halves of a secured connection, as byte streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncWrite as _, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::plane::handshake::Secured;
use crate::plane::record::{Content, OVERHEAD, Opening, PLAINTEXT_SIZE_MAX, Sealing, record_size};

/// Bytes read from the socket at once. Larger reads save few system calls and leave the second-level cache.
const READ_SIZE: usize = 128 * 1024;
/// Bytes gathered before they are written to the socket.
const WRITE_SIZE: usize = 128 * 1024;

/// Splits a connection.
pub(crate) fn halves(secured: Secured) -> (SendHalf, ReceiveHalf) {
    let (read, write) = secured.socket.into_split();
    let send = SendHalf { socket: write, sealing: secured.sealing, out: Vec::new(), sent: 0 };
    let arrived = secured.arrived.len();
    let receive = ReceiveHalf {
        socket: read,
        opening: secured.opening,
        buffer: secured.arrived,
        begin: 0,
        end: arrived,
        plain: 0..0,
        ended: false,
    };
    (send, receive)
}

/// Seals what is written, many records to a system call. What is written leaves on a flush, or when there is enough of it.
pub(crate) struct SendHalf {
    socket: OwnedWriteHalf,
    sealing: Sealing,
    out: Vec<u8>,
    sent: usize,
}

impl SendHalf {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(context, &self.out[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives its buffer back while there is nothing to send.
    pub(crate) fn rest(&mut self) {
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.out.len() >= WRITE_SIZE {
            ready!(this.poll_drain(context))?;
        }
        if this.out.capacity() == 0 {
            this.out.reserve_exact(WRITE_SIZE + PLAINTEXT_SIZE_MAX + OVERHEAD);
        }
        let mut taken = 0;
        while taken < bytes.len() && this.out.len() < WRITE_SIZE {
            let plaintext = &bytes[taken..bytes.len().min(taken + PLAINTEXT_SIZE_MAX)];
            this.sealing.seal(plaintext, &mut this.out).map_err(io::Error::other)?;
            taken += plaintext.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Opens what arrives, in the buffer that it arrived in. It has no buffer while nothing arrives.
pub(crate) struct ReceiveHalf {
    socket: OwnedReadHalf,
    opening: Opening,
    buffer: Vec<u8>,
    /// Where records that are not opened yet begin and end.
    begin: usize,
    end: usize,
    /// What is opened and not yet read.
    plain: std::ops::Range<usize>,
    ended: bool,
}

impl ReceiveHalf {
    /// Opens the next record if it is there; `false` if it isn't.
    fn open_next(&mut self) -> io::Result<bool> {
        let forged = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let waiting = &mut self.buffer[self.begin..self.end];
        let Some(size) = record_size(waiting).map_err(forged)?.filter(|size| *size <= waiting.len()) else {
            return Ok(false);
        };
        match self.opening.open(&mut waiting[..size]).map_err(forged)? {
            Content::Data(data) => {
                // A record is opened where it lies: its plaintext begins where its body did.
                let begin = self.begin + crate::plane::record::HEADER_SIZE;
                self.plain = begin..begin + data.len();
            }
            Content::End => self.ended = true,
        }
        self.begin += size;
        Ok(true)
    }

    /// Reads more from the socket behind what is waiting.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        self.plain = 0..0;
        if self.end == 0 {
            // An idle connection has no buffer.
            self.buffer = Vec::new();
            ready!(self.socket.as_ref().poll_read_ready(context))?;
        }
        if self.buffer.len() < READ_SIZE {
            self.buffer.resize(READ_SIZE, 0);
        }
        let mut space = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.socket), context, &mut space))?;
        let read = space.filled().len();
        self.end += read;
        Poll::Ready(Ok(read))
    }
}

impl AsyncRead for ReceiveHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut filled = 0;
        while filled < out.len() && !this.ended {
            if !this.plain.is_empty() {
                let size = this.plain.len().min(out.len() - filled);
                let plain = &this.buffer[this.plain.start..this.plain.start + size];
                out[filled..filled + size].copy_from_slice(plain);
                (filled, this.plain.start) = (filled + size, this.plain.start + size);
            } else if !this.open_next()? {
                if filled > 0 {
                    break;
                }
                if ready!(this.poll_fill(context))? == 0 {
                    this.ended = true;
                }
            }
        }
        Poll::Ready(Ok(filled))
    }
}
