//! The upstream, the proxy in front of it, and the client that asks for sizes.
//!
//! Invariants: every body has the bytes of its places, through the proxy as well; a body of another
//! length than the client expects is an error.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use cistern_load::plan::Plan;
use cistern_load::tally::Outcome;
use cistern_load::upstream::{byte_at, PATTERN_BYTES};
use cistern_load::{forward, load, upstream};

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn start_upstream() -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || upstream::serve(&listener));
    address
}

fn start_forward() -> SocketAddr {
    let source = start_upstream();
    let (listener, address) = listen();
    thread::spawn(move || forward::serve(&listener, source));
    address
}

fn body(stream: &mut TcpStream, size: usize) -> Vec<u8> {
    stream.write_all(format!("GET /{size} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    let mut reply = vec![0; head.len() + size];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply[..head.len()], head.as_bytes());
    reply.split_off(head.len())
}

fn measure(address: SocketAddr, sizes: &[usize], warmup: Duration) -> Outcome {
    let plan = Plan {
        connections: 4,
        warmup,
        duration: Duration::from_millis(200),
        sizes: sizes.to_vec(),
        ..Plan::new(address)
    };
    let mut measured = None;
    let on_measured = |outcome: &Outcome| {
        measured = Some(outcome.clone());
        ControlFlow::Break(())
    };
    load::run(&plan, || {}, on_measured).unwrap();
    measured.expect("a load ends with a result")
}

#[test]
fn bodies() {
    for address in [start_upstream(), start_forward()] {
        let mut stream = TcpStream::connect(address).unwrap();
        for size in [0, 1, 10_240, PATTERN_BYTES - 1, PATTERN_BYTES, PATTERN_BYTES + 1] {
            let body = body(&mut stream, size);
            let wrong = body.iter().enumerate().find(|(place, byte)| **byte != byte_at(*place));
            assert_eq!(wrong, None, "of {size} bytes");
        }
    }
}

#[test]
fn sizes_that_are_asked_for() {
    for address in [start_upstream(), start_forward()] {
        // Until the first reply: the server makes its bytes first.
        let warmup = Duration::from_millis(1);
        let outcome = measure(address, &[10, 100_000, 3_000_000], warmup);
        assert!(outcome.requests > 0);
        assert_eq!(outcome.errors, 0);
    }
}

#[test]
fn other_sizes_are_errors() {
    let (listener, address) = listen();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut request = [0; 1024];
                while let Ok(1..) = stream.read(&mut request) {
                    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    stream.write_all(reply).unwrap_or_default();
                }
            });
        }
    });
    let outcome = measure(address, &[3], Duration::ZERO);
    assert_eq!(outcome.requests, 0);
    assert!(outcome.errors > 0);
}

#[test]
fn nonsense_ends_the_connection() {
    let mut stream = TcpStream::connect(start_upstream()).unwrap();
    stream.write_all(b"GET /many HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
}
