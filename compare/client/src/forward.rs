//! The least that a proxy can be: each body in one block from `malloc`, and `free` when it is sent.
//!
//! It shows, for comparison, the memory of a proxy without a garbage collector. Each client has one
//! thread and one connection upstream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::response::parse_head;
use crate::upstream::{answer_all, each_connection, head_of, send_all};

/// Room for the head of a reply, and the part of its body that comes with it.
const HEAD_BYTES: usize = 4 * 1024;

/// Forwards all connections, forever.
///
/// # Errors
///
/// When the listener fails. An error of a client or of the upstream ends only that connection.
pub fn serve(listener: &TcpListener, upstream: SocketAddr) -> io::Result<()> {
    each_connection(listener, move |client| {
        let mut source = TcpStream::connect(upstream)?;
        source.set_nodelay(true)?;
        answer_all(client, move |client, size| {
            let body = fetch(&mut source, size)?;
            send_all(client, &head_of(body.len()), &body)
        })
    })
}

fn fetch(source: &mut TcpStream, size: usize) -> io::Result<Vec<u8>> {
    source.write_all(format!("GET /{size} HTTP/1.1\r\nHost: upstream\r\n\r\n").as_bytes())?;
    let mut head = [0; HEAD_BYTES];
    let mut filled = 0;
    loop {
        match source.read(&mut head[filled..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
        let parsed = parse_head(&head[..filled]).map_err(|_| ErrorKind::InvalidData)?;
        let Some((reply, head_length)) = parsed else { continue };
        let length = u64::try_from(reply.left).map_err(|_| ErrorKind::InvalidData)?;
        let mut body = Vec::with_capacity(reply.left);
        body.extend_from_slice(&head[head_length..filled]);
        let left = length - body.len() as u64;
        Read::by_ref(source).take(left).read_to_end(&mut body)?;
        return Ok(body);
    }
}
