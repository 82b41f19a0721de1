//! One socket: send, read, send again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::response::{Progress, ResponseReader};
use crate::script::Script;
use crate::tally::Tally;

/// A keep-alive connection with one request in flight.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    /// The place of the current request in the script.
    request: usize,
    /// Bytes of the current request that are out; the request's length once it is under way.
    written: usize,
    sent_at: Instant,
    connected: bool,
}

/// The state that all connections share.
#[derive(Debug)]
pub struct Shared {
    /// The requests to send.
    pub script: Script,
    /// The counts so far.
    pub tally: Tally,
    /// The buffer that replies are read into, and then discarded.
    pub scratch: Vec<u8>,
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
            request: 0,
            written: 0,
            sent_at: Instant::now(),
            connected: false,
        })
    }

    /// Does what the event allows. An error counts in the tally and the caller drops the
    /// connection.
    ///
    /// # Errors
    ///
    /// [`Lost`], already counted.
    pub fn drive(&mut self, event: &Event, shared: &mut Shared) -> Result<(), Lost> {
        let outcome = self.try_drive(event, shared);
        if outcome.is_err() {
            shared.tally.error();
        }
        outcome.map_err(|_| Lost)
    }

    fn try_drive(&mut self, event: &Event, shared: &mut Shared) -> io::Result<()> {
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
            self.request = shared.script.draw();
            self.sent_at = Instant::now();
        }
        if event.is_writable() {
            self.send(&shared.script)?;
        }
        if event.is_readable() || event.is_read_closed() {
            self.receive(event.is_read_closed(), shared)?;
        }
        Ok(())
    }

    fn send(&mut self, script: &Script) -> io::Result<()> {
        let request = &script.at(self.request).bytes;
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

    fn receive(&mut self, closing: bool, shared: &mut Shared) -> io::Result<()> {
        let Shared { script, tally, scratch } = shared;
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            tally.bytes(count);
            match self.reader.feed(&scratch[..count]) {
                Ok(Progress::More) => {}
                Ok(Progress::Done { status, length }) => {
                    let now = Instant::now();
                    let expected = script.at(self.request).body.unwrap_or(length);
                    if status == 200 && length == expected {
                        tally.reply(now - self.sent_at);
                    } else {
                        tally.error();
                    }
                    self.sent_at = now;
                    self.written = 0;
                    self.request = script.draw();
                    self.send(script)?;
                }
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
            // A read that does not fill the buffer has emptied the socket, and later bytes raise a
            // new edge (epoll(7), question 9). This saves a second read, which would only say
            // "would block". A closed peer gives no further edge, so there the end has to be read.
            // Windows gives none at all until a read has said "would block".
            if count < scratch.len() && !closing && !cfg!(windows) {
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
