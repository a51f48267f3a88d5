//! The app's own word: a URL that answers `{"cpu": SHARE, "memory": SHARE}`.
//!
//! It is asked on a thread of its own, so that an app that hangs delays nobody. The thread ends with the [`Fetcher`].
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_millis(800);
/// Longest time that [`Fetcher::ask`] waits for an answer; one that comes later is taken the next time.
const WAIT: Duration = Duration::from_millis(100);
/// Most bytes of an answer.
const MOST: usize = 16 << 10;
/// Shares beyond this are mistakes.
const SHARE_MOST: f64 = 1000.0;

/// What an app says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Word {
    /// Share of its cores in use.
    pub cpu: f64,
    /// Share of its memory in use.
    pub memory: Option<f64>,
    /// Cores it may use, if it says so.
    pub cores: Option<f64>,
}

/// Asks a URL, again and again.
#[derive(Debug)]
pub struct Fetcher {
    asks: SyncSender<()>,
    answers: Receiver<Result<Word, String>>,
}

impl Fetcher {
    /// A thread that asks `url`.
    ///
    /// # Errors
    /// There is no room for a thread.
    pub fn start(url: &str) -> std::io::Result<Fetcher> {
        let (asks, asked) = sync_channel::<()>(1);
        let (answer, answers) = sync_channel(1);
        let url = url.to_owned();
        std::thread::Builder::new().name("sense".into()).spawn(move || {
            while asked.recv().is_ok() {
                if answer.send(fetch(&url, PATIENCE)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Fetcher { asks, answers })
    }

    /// Asks, unless the last answer is still awaited, and gives the newest answer; absent = there is none yet.
    pub fn ask(&self) -> Option<Result<Word, String>> {
        let late = self.answers.try_recv();
        let _ = self.asks.try_send(());
        let fresh = self.answers.recv_timeout(WAIT).ok();
        match (fresh, late) {
            (Some(fresh), _) => Some(fresh),
            (None, Ok(late)) => Some(late),
            (None, Err(TryRecvError::Disconnected)) => Some(Err("the thread that asks has ended".into())),
            (None, Err(TryRecvError::Empty)) => None,
        }
    }
}

/// Gets a URL, within a time, and reads what it says.
///
/// # Errors
/// Why not, for people.
pub fn fetch(url: &str, within: Duration) -> Result<Word, String> {
    let until = Instant::now() + within;
    let rest = url.strip_prefix("http://").ok_or("is not a plain HTTP URL")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    if path.bytes().chain(authority.bytes()).any(|b| b <= b' ' || b == 127) {
        return Err("has characters that no URL has".into());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, p)| p.bytes().all(|b| b.is_ascii_digit()));
    let at = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let addr = at.to_socket_addrs().map_err(|e| e.to_string())?.next().ok_or("has no address")?;
    let left =
        || until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()).ok_or("took too long");
    let mut stream = TcpStream::connect_timeout(&addr, left()?).map_err(|e| e.to_string())?;
    stream.set_write_timeout(Some(left()?)).map_err(|e| e.to_string())?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\nUser-Agent: raddle\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(body) = body(&bytes, false)? {
            return word(&body);
        }
        stream.set_read_timeout(Some(left()?)).map_err(|e| e.to_string())?;
        match stream.read(&mut chunk) {
            Ok(0) => return word(&body(&bytes, true)?.ok_or("ended in the middle of its answer")?),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Err("took too long".into());
            }
            Err(e) => return Err(e.to_string()),
        }
        if bytes.len() > MOST {
            return Err(format!("answers more than {MOST} bytes"));
        }
    }
}

/// The body of an answer, once it is whole; with `ended`, no more will come.
fn body(bytes: &[u8], ended: bool) -> Result<Option<Vec<u8>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(at) = head.parse(bytes).map_err(|e| format!("is no HTTP: {e}"))? else {
        return Ok(None);
    };
    match head.code {
        Some(200) => {}
        Some(code) => return Err(format!("answers {code}, not 200")),
        None => return Err("is no HTTP".into()),
    }
    let rest = &bytes[at..];
    let header =
        |name: &str| head.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case(b"chunked")) {
        return unchunk(rest);
    }
    let length =
        header("content-length").and_then(|v| std::str::from_utf8(v).ok()?.trim().parse::<usize>().ok());
    Ok(match length {
        Some(n) => rest.get(..n).map(<[u8]>::to_vec),
        None => ended.then(|| rest.to_vec()),
    })
}

fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut whole = Vec::new();
    loop {
        match httparse::parse_chunk_size(rest) {
            Err(_) => return Err("is no HTTP: a chunk without a size".into()),
            Ok(httparse::Status::Partial) => return Ok(None),
            Ok(httparse::Status::Complete((_, 0))) => return Ok(Some(whole)),
            Ok(httparse::Status::Complete((at, size))) => {
                let end = usize::try_from(size).ok().and_then(|n| at.checked_add(n));
                let end = end.filter(|e| *e <= MOST).ok_or("answers too much")?;
                let Some(chunk) = rest.get(at..end) else { return Ok(None) };
                whole.extend_from_slice(chunk);
                let Some(next) = rest.get(end + 2..) else { return Ok(None) };
                rest = next;
            }
        }
    }
}

/// What an answer says.
///
/// # Errors
/// It is not what was agreed.
pub fn word(body: &[u8]) -> Result<Word, String> {
    let value: Value = serde_json::from_slice(body).map_err(|e| format!("does not answer JSON: {e}"))?;
    let share = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => match v.as_f64() {
            Some(n) if (0.0..=SHARE_MOST).contains(&n) => Ok(Some(n)),
            _ => Err(format!("answers {name}: {v}, which is no share: 1 is all of it")),
        },
    };
    let cpu = share("cpu")?.ok_or("answers no cpu: what is wanted is {\"cpu\": SHARE, \"memory\": SHARE}")?;
    Ok(Word { cpu, memory: share("memory")?, cores: share("cores")?.filter(|c| *c > 0.0) })
}
