//! One HTTP reply, read piece by piece.
//!
//! Only what the servers of the comparison send: a status line, headers with a Content-Length, and
//! that many bytes. The client counts the body and discards it.

/// More header lines than any server of the comparison sends.
const MAX_HEADERS: usize = 32;

/// The most bytes of a head; a longer one counts as garbage.
const MAX_HEAD: usize = 16 * 1024;

/// The progress of reading a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The rest has not come yet.
    More,
    /// The reply is whole.
    Done {
        /// Its status code.
        status: u16,
        /// The length of its body.
        length: usize,
    },
}

/// The bytes are no reply that this client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads one reply after the other.
#[derive(Debug, Default)]
pub struct ResponseReader {
    /// The start of a head that came in pieces. Stays empty as long as heads come whole.
    partial_head: Vec<u8>,
    /// Status and outstanding bytes, once the head is known.
    body: Option<Body>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    status: u16,
    length: usize,
    pub(crate) left: usize,
}

impl ResponseReader {
    /// Takes the bytes that came. After `Done` it is ready for the next reply.
    ///
    /// # Errors
    ///
    /// `Malformed` for anything but a reply with a Content-Length, and for bytes after its end:
    /// there is one request in flight, so nothing can follow.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let Some(body) = self.body else {
            return self.feed_head(bytes);
        };
        self.feed_body(body, bytes.len())
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let head = if self.partial_head.is_empty() {
            bytes
        } else {
            self.partial_head.extend_from_slice(bytes);
            &self.partial_head
        };
        match parse_head(head)? {
            Some((body, head_length)) => {
                let rest = head.len() - head_length;
                self.partial_head.clear();
                self.feed_body(body, rest)
            }
            None if head.len() > MAX_HEAD => Err(Malformed),
            None => {
                if self.partial_head.is_empty() {
                    self.partial_head.extend_from_slice(bytes);
                }
                Ok(Progress::More)
            }
        }
    }

    fn feed_body(&mut self, body: Body, came: usize) -> Result<Progress, Malformed> {
        let left = body.left.checked_sub(came).ok_or(Malformed)?;
        if left == 0 {
            self.body = None;
            return Ok(Progress::Done { status: body.status, length: body.length });
        }
        self.body = Some(Body { left, ..body });
        Ok(Progress::More)
    }
}

/// Returns the body to expect and the length of the head, or `None` while the head has not ended.
pub(crate) fn parse_head(head: &[u8]) -> Result<Option<(Body, usize)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_length) = response.parse(head).map_err(|_| Malformed)?
    else {
        return Ok(None);
    };
    let status = response.code.ok_or(Malformed)?;
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok())
        .and_then(|value| value.trim().parse().ok())
        .ok_or(Malformed)?;
    Ok(Some((Body { status, length, left: length }, head_length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nDate: x\r\n\r\nok";

    #[test]
    fn whole_reply() {
        let mut reader = ResponseReader::default();
        for _ in 0..2 {
            assert_eq!(reader.feed(REPLY), Ok(Progress::Done { status: 200, length: 2 }));
        }
    }

    #[test]
    fn every_cut() {
        for cut in 1..REPLY.len() {
            let mut reader = ResponseReader::default();
            for _ in 0..2 {
                let (first, second) = REPLY.split_at(cut);
                assert_eq!(reader.feed(first), Ok(Progress::More), "cut at {cut}");
                assert_eq!(
                    reader.feed(second),
                    Ok(Progress::Done { status: 200, length: 2 }),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn byte_by_byte() {
        let mut reader = ResponseReader::default();
        let (last, rest) = REPLY.split_last().unwrap();
        for byte in rest {
            assert_eq!(reader.feed(&[*byte]), Ok(Progress::More));
        }
        assert_eq!(reader.feed(&[*last]), Ok(Progress::Done { status: 200, length: 2 }));
    }

    #[test]
    fn other_status() {
        let reply = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            ResponseReader::default().feed(reply),
            Ok(Progress::Done { status: 500, length: 0 })
        );
    }

    #[test]
    fn malformed() {
        for reply in [
            &b"nothing like HTTP\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
        ] {
            assert_eq!(ResponseReader::default().feed(reply), Err(Malformed));
        }
    }

    #[test]
    fn endless_head() {
        let mut reader = ResponseReader::default();
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\nX: "), Ok(Progress::More));
        assert_eq!(reader.feed(&[b'x'; MAX_HEAD]), Err(Malformed));
    }
}
