//! Bytes waiting to be written to a peer.
//!
//! Frames are copied in (for the sizes RPC uses a copy costs less than a second iovec) and leave in as few
//! writes as the socket takes. An empty buffer gives its memory back to the worker's pool.
use crate::socket;
use std::io;
use std::os::fd::AsFd;

/// Spare buffers of one worker, so that neither idle connections hold memory nor busy ones allocate.
pub struct BufPool {
    spare: Vec<Vec<u8>>,
    most: usize,
}

/// A buffer that grew beyond this is not kept: one huge reply must not stay resident.
const KEEP_CAPACITY: usize = 256 << 10;

impl BufPool {
    /// A pool that keeps at most `most` buffers.
    pub fn new(most: usize) -> BufPool {
        BufPool { spare: Vec::new(), most }
    }

    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&mut self, mut buf: Vec<u8>) {
        if buf.capacity() > 0 && buf.capacity() <= KEEP_CAPACITY && self.spare.len() < self.most {
            buf.clear();
            self.spare.push(buf);
        }
    }

    /// Frees what is spare: after a burst, an idle worker should be small again.
    pub fn shrink(&mut self) {
        self.spare.clear();
        self.spare.shrink_to_fit();
    }
}

/// What a flush did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left.
    All,
    /// The socket is full; the rest waits for room.
    Partly,
}

/// An out-buffer: bytes from `head` on are unwritten.
#[derive(Default)]
pub struct OutBuf {
    buf: Vec<u8>,
    head: usize,
    written: u64,
}

impl OutBuf {
    /// Bytes waiting.
    #[inline]
    pub fn len(&self) -> usize {
        self.buf.len() - self.head
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Position in the stream of the next byte to be appended.
    #[inline]
    pub fn tail_offset(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// Position in the stream up to which the kernel has taken the bytes.
    #[inline]
    pub fn written_offset(&self) -> u64 {
        self.written
    }

    /// The bytes from stream position `from` on, as far as they are still here: unwritten ones always are,
    /// written ones until the buffer is emptied or compacted.
    pub fn kept_from(&self, from: u64) -> Option<&[u8]> {
        let kept = self.written - self.head as u64;
        let skip = from.checked_sub(kept)?;
        self.buf.get(skip as usize..)
    }

    /// Room to append to; only append. Compacts first when much of the buffer is written.
    #[inline]
    pub fn tail(&mut self, pool: &mut BufPool) -> &mut Vec<u8> {
        if self.buf.capacity() == 0 {
            self.buf = pool.take();
        }
        if self.head > 64 << 10 && self.head * 2 > self.buf.len() {
            self.buf.drain(..self.head);
            self.head = 0;
        }
        &mut self.buf
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// What `send` says; the connection is unusable then.
    pub fn flush(&mut self, fd: impl AsFd, pool: &mut BufPool) -> io::Result<Flushed> {
        while self.head < self.buf.len() {
            match socket::send(&fd, &self.buf[self.head..]) {
                Ok(n) => {
                    self.head += n;
                    self.written += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Partly),
                Err(e) => return Err(e),
            }
        }
        self.head = 0;
        pool.give(std::mem::take(&mut self.buf));
        Ok(Flushed::All)
    }

    /// Counts bytes that were written past this buffer (it must be empty).
    pub fn note_written(&mut self, n: usize) {
        debug_assert!(self.is_empty());
        self.written += n as u64;
    }

    /// Hands up to `most` of the waiting bytes to `f`, which takes them over, and counts them as written.
    ///
    /// # Errors
    /// What `f` says; nothing was taken then.
    pub fn take<E>(
        &mut self,
        most: usize,
        pool: &mut BufPool,
        f: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let n = self.len().min(most);
        f(&self.buf[self.head..self.head + n])?;
        self.head += n;
        self.written += n as u64;
        if self.head == self.buf.len() {
            self.head = 0;
            pool.give(std::mem::take(&mut self.buf));
        }
        Ok(())
    }

    /// Drops what waits and gives the memory back.
    pub fn clear(&mut self, pool: &mut BufPool) {
        self.written += self.len() as u64;
        self.head = 0;
        pool.give(std::mem::take(&mut self.buf));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn unwritten_bytes_are_found_by_stream_position() {
        let mut pool = BufPool::new(4);
        let (a, mut b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let mut out = OutBuf::default();
        out.tail(&mut pool).extend_from_slice(b"first");
        assert_eq!(out.flush(&a, &mut pool).unwrap(), Flushed::All);
        let at = out.tail_offset();
        out.tail(&mut pool).extend_from_slice(b"second");
        assert_eq!(out.kept_from(at), Some(&b"second"[..]));
        assert_eq!(out.kept_from(at - 1), None);
        assert_eq!(out.flush(&a, &mut pool).unwrap(), Flushed::All);
        let mut got = [0u8; 11];
        b.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"firstsecond");
        assert_eq!(out.kept_from(at), None);
    }

    #[test]
    fn a_full_socket_keeps_the_rest_in_order() {
        let mut pool = BufPool::new(4);
        let (a, mut b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let data: Vec<u8> = (0..4_000_000u32).map(|i| i as u8).collect();
        let mut out = OutBuf::default();
        out.tail(&mut pool).extend_from_slice(&data);
        assert_eq!(out.flush(&a, &mut pool).unwrap(), Flushed::Partly);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0u8; 4_000_000];
            b.read_exact(&mut got).unwrap();
            got
        });
        while out.flush(&a, &mut pool).unwrap() == Flushed::Partly {
            std::thread::yield_now();
        }
        assert_eq!(reader.join().unwrap(), data);
    }

    #[test]
    fn a_huge_buffer_is_not_kept() {
        let mut pool = BufPool::new(4);
        pool.give(Vec::with_capacity(1 << 20));
        assert_eq!(pool.take().capacity(), 0);
        pool.give(Vec::with_capacity(4096));
        assert!(pool.take().capacity() >= 4096);
    }
}
