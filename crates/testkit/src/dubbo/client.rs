//! A Dubbo client that says what it sends and sees what it gets.
use super::frame::{DubboAsk, DubboFrame, DubboReader};
use crate::client::Stream;
use crate::wait::PATIENCE;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

/// A connection that sends requests and reads replies.
pub struct DubboClient {
    /// The connection.
    pub stream: Stream,
    frames: DubboReader<Stream>,
}

impl DubboClient {
    /// Connects; reads wait [`PATIENCE`] at most.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> DubboClient {
        match DubboClient::try_connect(addr) {
            Ok(c) => c,
            Err(e) => panic!("connect to {addr}: {e}"),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// What connecting says.
    pub fn try_connect(addr: SocketAddr) -> io::Result<DubboClient> {
        let s = TcpStream::connect(addr)?;
        s.set_nodelay(true)?;
        s.set_read_timeout(Some(PATIENCE))?;
        s.set_write_timeout(Some(PATIENCE))?;
        let stream = Stream(Arc::new(s));
        Ok(DubboClient { frames: DubboReader::new(stream.clone()), stream })
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
    pub fn ask(&mut self, ask: &DubboAsk) {
        self.send(&ask.bytes());
    }

    /// The next frame.
    #[track_caller]
    pub fn frame(&mut self) -> DubboFrame {
        match self.frames.next_frame() {
            Ok(Some(f)) => f,
            Ok(None) => panic!("the connection ended; a frame was expected"),
            Err(e) => panic!("no frame: {e}"),
        }
    }

    /// The next frame, or how the stream ended.
    ///
    /// # Errors
    /// As [`DubboReader::next_frame`].
    pub fn try_next(&mut self) -> io::Result<Option<DubboFrame>> {
        self.frames.next_frame()
    }

    /// Sends a request and returns its reply, whose id is the request's.
    #[track_caller]
    pub fn call(&mut self, ask: &DubboAsk) -> DubboFrame {
        self.ask(ask);
        let f = self.frame();
        assert!(!f.is_request() && !f.is_event(), "no reply: {f:?}");
        assert_eq!(f.id(), ask.id, "the reply is for another request: {f:?}");
        f
    }

    /// Waits for the end of the connection, orderly or not; frames before it are an error.
    #[track_caller]
    pub fn expect_end(&mut self) {
        match self.frames.next_frame() {
            Ok(None) => {}
            Ok(Some(f)) => panic!("a frame instead of the end: {:?}", f.text()),
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
