//! Requests to the control plane: any method, a body, a token, TLS; and answers that never end.
use super::{Answer, Error, parse, read_all};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where systems keep the certificates of public authorities.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Silence on a stream that never ends after which it counts as dead; heartbeats come more often.
const SILENCE: Duration = Duration::from_secs(40);

/// A server, and how it is spoken to.
pub(crate) struct Client {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    token: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({self})")
    }
}

/// The server's URL.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Media type and content.
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
}

impl Request {
    /// One without body.
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Request {
        Request { method, path: path.into(), headers: Vec::new(), body: None }
    }
}

/// One end of a connection.
trait Pipe: Read + Write {}
impl<T: Read + Write> Pipe for T {}

impl Client {
    /// A server by its URL.
    ///
    /// # Errors
    /// The URL, the token or the file of certificates cannot be used: a sentence.
    pub(crate) fn new(url: &str, token: Option<String>, ca_file: Option<&Path>) -> Result<Client, String> {
        let wrong = || format!("{url:?} is no server's URL; give http://HOST:PORT or https://HOST:PORT");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
            return Err(wrong());
        }
        let (secure, usual) = match scheme {
            "http" => (false, 7070),
            "https" => (true, 443),
            _ => return Err(wrong()),
        };
        let (host, port) = split(rest, usual).ok_or_else(wrong)?;
        let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !secure && token.is_some() && !loopback {
            return Err(format!("a token is not sent in plaintext to {host}: use https://{rest}"));
        }
        if token.as_ref().is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err("the token is empty or has characters no token has".into());
        }
        let tls = if secure { Some(Arc::new(config(ca_file)?)) } else { None };
        Ok(Client { host, port, tls, token })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Sends a request; the whole answer, within `timeout`.
    pub(crate) fn send(&self, request: &Request, timeout: Duration) -> Result<Answer, Error> {
        let deadline = Instant::now() + timeout;
        let tcp = self.connect(timeout)?;
        let watch = tcp.try_clone()?;
        let mut pipe = self.secure(tcp)?;
        pipe.write_all(&self.head(request))?;
        if let Some((_, body)) = &request.body {
            pipe.write_all(body)?;
        }
        pipe.flush()?;
        let raw = read_all(&mut pipe, |_, left| watch.set_read_timeout(Some(left)), deadline)?;
        parse(&raw)
    }

    /// Sends a GET whose answer never ends; every line of a good one is told until `told` says `false`. An answer that
    /// is not good is given back whole; `None` = the stream ended.
    pub(crate) fn follow(
        &self,
        request: &Request,
        mut told: impl FnMut(&str) -> bool,
    ) -> Result<Option<Answer>, Error> {
        let tcp = self.connect(Duration::from_secs(10))?;
        tcp.set_read_timeout(Some(SILENCE))?;
        let mut pipe = self.secure(tcp)?;
        pipe.write_all(&self.head(request))?;
        pipe.flush()?;
        let mut reader = BufReader::new(pipe);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if head.len() > 64 << 10 || reader.by_ref().take(8 << 10).read_line(&mut head)? == 0 {
                return Err(Error::NotHttp);
            }
        }
        if !head.starts_with("HTTP/1.1 200") {
            let mut raw = head.into_bytes();
            reader.take(1 << 20).read_to_end(&mut raw)?;
            return parse(&raw).map(Some);
        }
        let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
        let mut lines = Lines::default();
        loop {
            let piece = if chunked { chunk(&mut reader)? } else { some(&mut reader)? };
            let Some(piece) = piece else { return Ok(None) };
            if !lines.feed(&piece, &mut told) {
                return Ok(None);
            }
        }
    }

    fn connect(&self, timeout: Duration) -> Result<TcpStream, Error> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(tcp) => {
                    tcp.set_write_timeout(Some(timeout))?;
                    tcp.set_read_timeout(Some(timeout))?;
                    return Ok(tcp);
                }
                Err(e) => last = e,
            }
        }
        Err(last.into())
    }

    fn secure(&self, tcp: TcpStream) -> Result<Box<dyn Pipe>, Error> {
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(session, tcp)))
    }

    fn head(&self, request: &Request) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nUser-Agent: raddle/{}\r\nConnection: close\r\n",
            request.method,
            request.path,
            self.authority(),
            env!("CARGO_PKG_VERSION")
        );
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &request.body {
            Some((media, body)) => {
                head.push_str(&format!("Content-Type: {media}\r\nContent-Length: {}\r\n", body.len()));
            }
            None if request.method != "GET" => head.push_str("Content-Length: 0\r\n"),
            None => {}
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Host and port of an authority.
fn split(text: &str, usual: u16) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = if port.is_empty() { usual } else { port.strip_prefix(':')?.parse().ok()? };
        return Some((host.to_owned(), port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(':') => {
            Some((host.to_owned(), port.parse().ok()?))
        }
        Some(_) => None,
        None => Some((text.to_owned(), usual)),
    }
}

fn config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let file = match ca_file {
        Some(file) => file.to_owned(),
        None => SYSTEM.iter().map(PathBuf::from).find(|f| f.exists()).ok_or(
            "this system has no list of authorities; give the control plane's own with --ca-file (raddle ca roots)",
        )?,
    };
    let said = |e: &dyn fmt::Display| format!("{}: {e}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|e| said(&e))? {
        // Of a system's list some may be of a kind that is not read; of one's own file all must be.
        let added = certificate.map_err(|e| said(&e)).and_then(|c| roots.add(c).map_err(|e| said(&e)));
        if ca_file.is_some() {
            added?;
        }
    }
    if roots.is_empty() {
        return Err(said(&"there is no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// One chunk of a chunked body; nothing = its end.
fn chunk(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, Error> {
    let mut line = String::new();
    if reader.take(1 << 10).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let size =
        usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16).map_err(|_| Error::NotHttp)?;
    if size == 0 {
        return Ok(None);
    }
    if size > 16 << 20 {
        return Err(Error::NotHttp);
    }
    let mut piece = vec![0; size + 2];
    reader.read_exact(&mut piece)?;
    piece.truncate(size);
    Ok(Some(piece))
}

/// What there is of a body without frames.
fn some(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, Error> {
    let piece = reader.fill_buf()?.to_vec();
    reader.consume(piece.len());
    Ok((!piece.is_empty()).then_some(piece))
}

/// Whole lines out of pieces.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn feed(&mut self, piece: &[u8], told: &mut impl FnMut(&str) -> bool) -> bool {
        self.0.extend_from_slice(piece);
        while let Some(end) = self.0.iter().position(|b| *b == b'\n') {
            let rest = self.0.split_off(end + 1);
            let line = std::mem::replace(&mut self.0, rest);
            if !told(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(url: &str) -> Result<(String, u16), String> {
        Client::new(url, None, None).map(|c| (c.host, c.port))
    }

    #[test]
    fn urls_are_read_strictly() {
        assert_eq!(host("http://127.0.0.1:7070"), Ok(("127.0.0.1".into(), 7070)));
        assert_eq!(host("http://localhost/"), Ok(("localhost".into(), 7070)));
        assert_eq!(host("http://[::1]:80"), Ok(("::1".into(), 80)));
        for bad in
            ["localhost:7070", "ftp://a", "http://", "http://a/b", "http://a:x", "http://::1", "http://u@a"]
        {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_never_leaves_the_machine_in_plaintext() {
        let with = |url: &str| Client::new(url, Some("rdl_x_y".into()), None);
        assert!(with("http://127.0.0.1:7070").is_ok());
        let error = with("http://control.example.com:7070").map(|_| ()).unwrap_err();
        assert!(error.contains("https://control.example.com:7070"), "{error}");
        assert!(!format!("{:?}", with("http://127.0.0.1:1").unwrap()).contains("rdl_"));
        assert!(Client::new("http://127.0.0.1:1", Some("a\r\nX: y".into()), None).is_err());
    }

    #[test]
    fn lines_are_told_whole_wherever_the_pieces_end() {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in ["id: 1\nev", "ent: x\r\n", "\n"] {
            assert!(lines.feed(piece.as_bytes(), &mut |line| {
                all.push(line.to_owned());
                true
            }));
        }
        assert_eq!(all, ["id: 1", "event: x", ""]);
        assert!(chunk(&mut &b"zz\r\n"[..]).is_err());
        assert!(chunk(&mut &b"fffffffff\r\n"[..]).is_err());
        assert_eq!(chunk(&mut &b"2\r\nhi\r\n"[..]).unwrap(), Some(b"hi".to_vec()));
    }
}
