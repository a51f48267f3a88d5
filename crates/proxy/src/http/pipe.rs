//! What the h2 crate takes for a socket: bytes in memory, filled and emptied by the worker's turn.
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes the crate may have written ahead of the socket.
const WRITE_MOST: usize = 256 << 10;

/// Bytes between a socket and h2.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Received, not yet read.
    input: Vec<u8>,
    at: usize,
    /// The peer ended its stream.
    pub ended: bool,
    /// Written, not yet taken by the worker.
    pub output: Vec<u8>,
    /// Bytes that wait behind `output`, in the connection's out-buffer.
    pub behind: usize,
    /// h2 has ended its side.
    pub shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Buffers {
    /// Adds bytes from the socket.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.at == self.input.len() {
            self.input.clear();
            self.at = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// Bytes h2 has not read, because it is busy writing.
    pub(crate) fn unread(&self) -> usize {
        self.input.len() - self.at
    }

    /// Whether h2 waits for room to write.
    pub(crate) fn stuck(&self) -> bool {
        self.writer.is_some()
    }
}

/// h2's end of [`Buffers`].
#[derive(Clone, Default)]
pub(crate) struct Pipe(pub Rc<RefCell<Buffers>>);

impl Pipe {
    /// The out-buffer behind the pipe has emptied to `behind` bytes; whoever waited to write may go on.
    pub(crate) fn made_room(&self, behind: usize, waker: &Waker) {
        let mut b = self.0.borrow_mut();
        b.behind = behind;
        if b.stuck() {
            waker.wake_by_ref();
        }
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut b = self.0.borrow_mut();
        let n = b.unread().min(buf.remaining());
        if n == 0 && !b.ended {
            b.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        buf.put_slice(&b.input[b.at..b.at + n]);
        b.at += n;
        if b.at == b.input.len() {
            // An idle connection holds no buffer.
            b.input = Vec::new();
            b.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut b = self.0.borrow_mut();
        let room = WRITE_MOST.saturating_sub(b.output.len() + b.behind);
        if room == 0 {
            b.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let n = bytes.len().min(room);
        b.output.extend_from_slice(&bytes[..n]);
        b.writer = None;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().shut = true;
        Poll::Ready(Ok(()))
    }
}
