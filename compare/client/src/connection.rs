//! One socket: send, read, send again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::response::{Progress, ResponseReader};
use crate::tally::Tally;

/// The replies of the comparison are far smaller, so that a read empties the socket.
const READ_BUFFER: usize = 16 * 1024;

/// A keep-alive connection with one request in flight.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    /// Bytes of the current request that are out; the request's length once it is under way.
    written: usize,
    sent_at: Instant,
    connected: bool,
}

/// The connection is of no further use: refused, reset, closed or out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl Connection {
    /// Starts to connect; the first request goes out when the socket reports that it can write.
    ///
    /// # Errors
    ///
    /// When the system has no socket to give, or refuses at once.
    pub fn open(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        // Edge-triggered: asking for both directions costs no wake-ups while the socket can write.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            reader: ResponseReader::default(),
            written: 0,
            sent_at: Instant::now(),
            connected: false,
        })
    }

    /// Does what the event allows. An error counts in the tally and the caller drops the connection.
    ///
    /// # Errors
    ///
    /// [`Lost`], already counted.
    pub fn drive(&mut self, event: &Event, request: &[u8], tally: &mut Tally) -> Result<(), Lost> {
        let outcome = self.try_drive(event, request, tally);
        if outcome.is_err() {
            tally.error();
        }
        outcome.map_err(|_| Lost)
    }

    fn try_drive(&mut self, event: &Event, request: &[u8], tally: &mut Tally) -> io::Result<()> {
        if !self.connected {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            match self.stream.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
            self.stream.set_nodelay(true)?;
            self.sent_at = Instant::now();
        }
        if event.is_writable() && self.written < request.len() {
            self.send(request)?;
        }
        if event.is_readable() || event.is_read_closed() {
            self.receive(event.is_read_closed(), request, tally)?;
        }
        Ok(())
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while self.written < request.len() {
            match self.stream.write(&request[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, closing: bool, request: &[u8], tally: &mut Tally) -> io::Result<()> {
        let mut buffer = [0; READ_BUFFER];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            tally.bytes(count);
            match self.reader.feed(&buffer[..count]) {
                Ok(Progress::More) => {}
                Ok(Progress::Done { status }) => {
                    let now = Instant::now();
                    if status == 200 {
                        tally.reply(now - self.sent_at);
                    } else {
                        tally.error();
                    }
                    self.sent_at = now;
                    self.written = 0;
                    self.send(request)?;
                }
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
            // A read that does not fill the buffer has emptied the socket, and what comes later is a
            // new edge (epoll(7), question 9): the second read, which would only say "would block",
            // is saved. A closed peer gives no further edge, so there the end has to be read.
            if count < buffer.len() && !closing {
                return Ok(());
            }
        }
    }

    /// Takes the socket out of the poll, before it is dropped.
    ///
    /// # Errors
    ///
    /// When the system refuses; the socket is closed by the drop in any case.
    pub fn close(mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.stream)
    }
}
