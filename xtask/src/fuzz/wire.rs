//! Bytes to a server and its answers, without anything in between that would set them right.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of answers to one case that are read at most.
const ANSWERS_SIZE_MAX: usize = 16 << 20;
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take none of what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of a connection once all was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is answered: the request is whole.
    Answered,
    /// It may be that more is waited for: then no more comes.
    BrokenOff,
}

/// How long answers are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a whole request's.
    pub(super) answer: Duration,
    /// For what may be no whole request's.
    pub(super) broken: Duration,
    /// For one answer more than there should be.
    pub(super) surplus: Duration,
}

impl Patience {
    pub(super) const USUAL: Self = Self {
        answer: Duration::from_secs(30),
        broken: Duration::from_millis(60),
        surplus: Duration::from_millis(15),
    };
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// All that a server said on one connection.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) answers: Vec<Answer>,
    /// Every byte, also those that are of no whole answer.
    pub(super) bytes: Vec<u8>,
    /// What is no answer in HTTP.
    pub(super) malformed: Option<&'static str>,
    /// The server has closed the connection.
    pub(super) closed: bool,
}

/// Sends bytes over a connection of their own, and reads what is answered.
///
/// # Errors
/// When there is no connection.
pub(super) fn exchange(
    address: SocketAddr,
    bytes: &[u8],
    ending: Ending,
    patience: Patience,
) -> Result<Said, String> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)
        .map_err(|error| format!("no connection: {error}"))?;
    let set = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_write_timeout(Some(WRITE_PATIENCE)))
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_millis(5))));
    set.map_err(|error| format!("a socket: {error}"))?;
    // Whoever refuses a request need not read all of it.
    let sent = stream.write_all(bytes);
    let heads_only = bytes.starts_with(b"HEAD ");
    let mut said = Said::default();
    let first_wait = match (ending, sent.is_ok()) {
        (Ending::Answered, true) => patience.answer,
        _ => patience.broken,
    };
    read_answers(&mut stream, &mut said, heads_only, first_wait, patience);
    if said.answers.is_empty() && !said.closed && ending == Ending::BrokenOff {
        // Whatever it waits for, no more of it comes.
        let _ = stream.shutdown(Shutdown::Write);
        read_answers(&mut stream, &mut said, heads_only, patience.broken, patience);
    }
    Ok(said)
}

fn read_answers(
    stream: &mut TcpStream,
    said: &mut Said,
    heads_only: bool,
    first_wait: Duration,
    patience: Patience,
) {
    let mut deadline = Instant::now() + first_wait;
    let mut chunk = [0; 16 << 10];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => said.closed = true,
            Ok(size) => {
                said.bytes.extend_from_slice(&chunk[..size]);
                deadline = deadline.max(Instant::now() + patience.broken);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => said.closed = true,
        }
        let before = said.answers.len();
        parse(said, heads_only);
        if said.answers.len() > before {
            deadline = Instant::now() + patience.surplus;
        }
        let streams = said.answers.is_empty() && is_of_events(&said.bytes);
        let over = said.bytes.len() > ANSWERS_SIZE_MAX || said.malformed.is_some() || streams;
        if said.closed || over || Instant::now() > deadline {
            if streams {
                said.answers.extend(open_answer(&said.bytes));
            }
            return;
        }
    }
}

/// Takes all whole answers from what was said.
fn parse(said: &mut Said, heads_only: bool) {
    let mut rest = said.bytes.as_slice();
    let mut answers = Vec::new();
    said.malformed = None;
    while !rest.is_empty() {
        match answer(rest, heads_only && answers.is_empty(), said.closed) {
            Ok(Some((answer, used))) => {
                rest = &rest[used..];
                // What only says that more may be sent is no answer.
                if answer.status >= 200 {
                    answers.push(answer);
                }
            }
            Ok(None) => break,
            Err(why) => {
                said.malformed = Some(why);
                break;
            }
        }
    }
    said.answers = answers;
}

/// The first answer, and how many bytes it has; nothing where it isn't whole yet.
fn answer(bytes: &[u8], head_only: bool, closed: bool) -> Result<Option<(Answer, usize)>, &'static str> {
    let Some(head_size) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        let begins = b"HTTP/1.".iter().zip(bytes).all(|(expected, byte)| expected == byte);
        return if begins { Ok(None) } else { Err("what was said is no answer in HTTP") };
    };
    let head = &bytes[..head_size];
    let status = status(head).ok_or("an answer without a status")?;
    let made =
        |body: Vec<u8>, used| Ok(Some((Answer { status, head: head.to_vec(), body }, head_size + used)));
    let rest = &bytes[head_size..];
    if head_only || status < 200 || status == 204 || status == 304 {
        return made(Vec::new(), 0);
    }
    if header(head, "transfer-encoding").is_some() {
        return match chunked(rest)? {
            Some((body, used)) => made(body, used),
            None => Ok(None),
        };
    }
    match header(head, "content-length") {
        Some(size) => {
            let size: usize = size.parse().map_err(|_| "an answer of a size that is no number")?;
            if rest.len() < size { Ok(None) } else { made(rest[..size].to_vec(), size) }
        }
        None if closed => made(rest.to_vec(), rest.len()),
        None => Ok(None),
    }
}

/// What has been said so far of an answer that does not end.
fn open_answer(bytes: &[u8]) -> Option<Answer> {
    let head_size = find(bytes, b"\r\n\r\n")? + 4;
    let (head, body) = (bytes[..head_size].to_vec(), bytes[head_size..].to_vec());
    Some(Answer { status: status(&head)?, head, body })
}

fn is_of_events(bytes: &[u8]) -> bool {
    find(bytes, b"\r\n\r\n")
        .is_some_and(|end| header(&bytes[..end], "content-type") == Some("text/event-stream"))
}

/// A body in chunks, and how many bytes it takes.
fn chunked(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, &'static str> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let line = str::from_utf8(&bytes[at..at + end]).map_err(|_| "a chunk's size is no text")?;
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk's size is no number")?;
        at += end + 2;
        let Some(chunk) = bytes.get(at..at + size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        at += size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            // Trailers, which these answers do not have.
            Some(_) => return Err("a chunk doesn't end where it should"),
            None => return Ok(None),
        }
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let known = matches!(version, "HTTP/1.0" | "HTTP/1.1");
    rest.get(..3)?.parse().ok().filter(|status| known && (100..600).contains(status))
}

/// The value of a header, if it is text.
pub(super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (found, value) = str::from_utf8(line).ok()?.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where bytes begin in others.
pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::{Said, parse};

    fn parsed(text: &str, closed: bool) -> Said {
        let mut said = Said { bytes: text.as_bytes().to_vec(), closed, ..Said::default() };
        parse(&mut said, false);
        said
    }

    #[test]
    fn answers_are_told_apart_by_their_sizes_and_chunks() {
        let said = parsed(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 404 Not Found\r\n\
             transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-le",
            false,
        );
        let told: Vec<(u16, &[u8])> =
            said.answers.iter().map(|answer| (answer.status, answer.body.as_slice())).collect();
        assert_eq!(told, [(200, &b"ok"[..]), (404, &b"abc"[..])]);
        assert_eq!(said.malformed, None);
    }

    #[test]
    fn what_is_no_answer_is_seen() {
        assert!(parsed("<html>", false).malformed.is_some());
        assert!(parsed("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok?", false).malformed.is_some());
        assert_eq!(parsed("HTTP/1.1 200 OK\r\n\r\nto its end", true).answers[0].body, b"to its end");
    }
}
