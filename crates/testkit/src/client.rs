//! A Bolt client that says what it sends and sees what it gets.
use crate::frame::{Ask, Frame, FrameReader};
use crate::wait::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A stream that may be read and written from different places.
#[derive(Clone)]
pub struct Stream(pub Arc<TcpStream>);

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that sends requests and reads replies.
pub struct BoltClient {
    /// The connection.
    pub stream: Stream,
    frames: FrameReader<Stream>,
}

impl BoltClient {
    /// Connects; reads wait [`PATIENCE`] at most.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> BoltClient {
        match BoltClient::try_connect(addr) {
            Ok(c) => c,
            Err(e) => panic!("connect to {addr}: {e}"),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// What connecting says.
    pub fn try_connect(addr: SocketAddr) -> io::Result<BoltClient> {
        let s = TcpStream::connect(addr)?;
        s.set_nodelay(true)?;
        s.set_read_timeout(Some(PATIENCE))?;
        s.set_write_timeout(Some(PATIENCE))?;
        let stream = Stream(Arc::new(s));
        Ok(BoltClient { frames: FrameReader::new(stream.clone()), stream })
    }

    /// Bounds how long reads wait.
    pub fn patience(self, most: Duration) -> BoltClient {
        // Fails only for a zero duration.
        let _ = self.stream.0.set_read_timeout(Some(most));
        self
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(e) = self.stream.write_all(bytes) {
            panic!("send: {e}");
        }
    }

    /// Sends a request.
    #[track_caller]
    pub fn ask(&mut self, ask: &Ask) {
        self.send(&ask.bytes());
    }

    /// The next frame.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        match self.frames.next_frame() {
            Ok(Some(f)) => f,
            Ok(None) => panic!("the connection ended; a frame was expected"),
            Err(e) => panic!("no frame: {e}"),
        }
    }

    /// The next frame, or how the stream ended.
    ///
    /// # Errors
    /// As [`FrameReader::next_frame`].
    pub fn try_next(&mut self) -> io::Result<Option<Frame>> {
        self.frames.next_frame()
    }

    /// Sends a request and returns its reply, whose id and framing are the request's.
    #[track_caller]
    pub fn call(&mut self, ask: &Ask) -> Frame {
        self.ask(ask);
        let f = self.frame();
        assert_eq!(f.head.id, ask.id, "the reply is for another request: {f:?}");
        assert_eq!(f.head.variant, ask.variant, "the reply is in another framing");
        f
    }

    /// Waits for the end of the connection, orderly or not; frames before it are an error.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.frames.next_frame() {
            Ok(None) => {}
            Ok(Some(f)) => panic!("a frame instead of the end: {:?}", f.head),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the connection is still open")
            }
            Err(_) => {}
        }
    }

    /// Ends the sending side.
    pub fn end_sending(&self) {
        let _ = self.stream.0.shutdown(Shutdown::Write);
    }
}
