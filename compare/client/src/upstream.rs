//! A server of bytes: `GET /N` is answered with N of them.
//!
//! It has one thread per connection and one copy of the bytes for all. So an answer takes one
//! system call per socket buffer, and clients hardly wait for this server.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// The bytes that bodies are cut from; longer ones start over.
pub const PATTERN_BYTES: usize = 4 * 1024 * 1024;

/// Room for the head of a request.
const HEAD_BYTES: usize = 8 * 1024;

/// More header lines than Node's `http` sends.
const MAX_HEADERS: usize = 32;

/// Returns the byte at a place of a body. It depends on all bits of the place, so that lost,
/// doubled or reordered pieces are noticed.
#[must_use]
pub fn byte_at(place: usize) -> u8 {
    let place = place % PATTERN_BYTES;
    ((place + (place >> 8) * 3 + (place >> 16) * 7) & 0xff) as u8
}

/// Answers all connections, forever.
///
/// # Errors
///
/// When the listener fails. An error of a client ends only its connection.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    let pattern: Arc<[u8]> = (0..PATTERN_BYTES).map(byte_at).collect();
    each_connection(listener, move |client| {
        let pattern = Arc::clone(&pattern);
        answer_all(client, move |client, size| send(client, size, &pattern))
    })
}

/// Starts a thread for each new connection.
pub(crate) fn each_connection<F>(listener: &TcpListener, handle: F) -> io::Result<()>
where
    F: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    let handle = Arc::new(handle);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let handle = Arc::clone(&handle);
        // The error is the client's, which sees it itself.
        thread::spawn(move || handle(stream));
    }
}

/// Reads and answers requests until the client closes the connection.
pub(crate) fn answer_all(
    mut client: TcpStream,
    mut answer: impl FnMut(&mut TcpStream, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    while let Some((size, length)) = next_request(&mut client, &mut head)? {
        head.drain(..length);
        answer(&mut client, size)?;
    }
    Ok(())
}

/// Returns the size that the next request asks for and the length of its head; `None` at the end.
fn next_request(client: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<Option<(usize, usize)>> {
    let mut piece = [0; HEAD_BYTES];
    loop {
        if let Some(request) = parse_request(head)? {
            return Ok(Some(request));
        }
        if head.len() >= HEAD_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        match client.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => head.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn parse_request(head: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let malformed = || io::Error::from(ErrorKind::InvalidData);
    match request.parse(head).map_err(|_| malformed())? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(length) => {
            let path = request.path.ok_or_else(malformed)?;
            let size = path.trim_start_matches('/').parse().map_err(|_| malformed())?;
            Ok(Some((size, length)))
        }
    }
}

/// Returns the head of a reply with `size` bytes.
pub(crate) fn head_of(size: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes()
}

fn send(client: &mut TcpStream, size: usize, pattern: &[u8]) -> io::Result<()> {
    let first = &pattern[..size.min(PATTERN_BYTES)];
    send_all(client, &head_of(size), first)?;
    let mut left = size - first.len();
    while left > 0 {
        let piece = &pattern[..left.min(PATTERN_BYTES)];
        client.write_all(piece)?;
        left -= piece.len();
    }
    Ok(())
}

/// Sends head and body with as few system calls as the socket allows.
pub(crate) fn send_all(client: &mut TcpStream, head: &[u8], body: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < head.len() {
        let parts = [IoSlice::new(&head[written..]), IoSlice::new(body)];
        match client.write_vectored(&parts) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    client.write_all(&body[written - head.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let whole = b"GET /123 HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(parse_request(whole).unwrap(), Some((123, whole.len())));
        assert_eq!(parse_request(&whole[..20]).unwrap(), None);
        for wrong in
            [&b"GET /many HTTP/1.1\r\n\r\n"[..], b"GET /-1 HTTP/1.1\r\n\r\n", b"\0\r\n\r\n"]
        {
            assert!(parse_request(wrong).is_err());
        }
    }

    #[test]
    fn neighbouring_pages_differ() {
        for place in [0, 255, 256, 65_535, 65_536, PATTERN_BYTES - 1] {
            let page = |start: usize| (start..start + 512).map(byte_at).collect::<Vec<_>>();
            assert_ne!(page(place), page(place + 4096), "at {place}");
        }
    }
}
