//! The client against servers of known behaviour.
//!
//! Invariants: every whole reply with status 200 counts once; everything else is an error and never
//! ends the load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cistern_load::load;
use cistern_load::plan::Plan;
use cistern_load::tally::Outcome;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Starts a server that hands each connection to `serve`, in a thread of its own.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Answers each request on the connection with what `reply` gives, until the client goes.
fn answer(mut stream: TcpStream, mut reply: impl FnMut(&mut TcpStream)) {
    let mut buffer = [0; 1024];
    let mut end = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer[end..]) {
        end += count;
        if buffer[..end].ends_with(b"\r\n\r\n") {
            end = 0;
            reply(&mut stream);
        }
    }
}

fn measure(address: SocketAddr, warmup: Duration) -> Outcome {
    run(&Plan {
        connections: 4,
        warmup,
        duration: Duration::from_millis(300),
        ..Plan::new(address)
    })
}

fn run(plan: &Plan) -> Outcome {
    let mut measured = None;
    load::run(
        plan,
        || {},
        |outcome| {
            measured = Some(outcome.clone());
            ControlFlow::Break(())
        },
    )
    .unwrap();
    measured.expect("a load ends with a result")
}

/// Starts a server that answers every request, and counts its answers.
fn counting_server() -> (SocketAddr, Arc<AtomicU64>) {
    let served = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&served);
    let address = server(move |stream| {
        answer(stream, |stream| {
            counter.fetch_add(1, Ordering::SeqCst);
            stream.write_all(OK).unwrap_or_default();
        });
    });
    (address, served)
}

#[test]
fn replies_are_counted_once() {
    let (address, served) = counting_server();
    let outcome = measure(address, Duration::ZERO);
    let served = served.load(Ordering::SeqCst);
    assert!(outcome.requests > 0);
    assert_eq!(outcome.errors, 0);
    // Each of the four connections may have one reply under way at the end.
    assert!(
        (outcome.requests..=outcome.requests + 4).contains(&served),
        "{served} served, {} counted",
        outcome.requests
    );
    assert_eq!(outcome.bytes, outcome.requests * OK.len() as u64);
    assert!(outcome.cpu_seconds > 0.0);
}

#[test]
fn warm_up_is_left_out() {
    let (address, served) = counting_server();
    let outcome = measure(address, Duration::from_millis(300));
    assert!(outcome.requests > 0);
    assert!(outcome.requests + 4 < served.load(Ordering::SeqCst));
}

#[test]
fn warm_up_waits_for_the_first_reply() {
    let address = server(|stream| {
        let mut is_first = true;
        answer(stream, |stream| {
            if is_first {
                thread::sleep(Duration::from_millis(800));
            }
            is_first = false;
            stream.write_all(OK).unwrap_or_default();
        });
    });
    let outcome = measure(address, Duration::from_millis(100));
    assert!(outcome.requests > 0);
}

/// Starts a server that delays each reply.
fn slow_server(pause: Duration) -> SocketAddr {
    server(move |stream| {
        answer(stream, |stream| {
            thread::sleep(pause);
            stream.write_all(OK).unwrap_or_default();
        });
    })
}

fn run_until(requests: u64, address: SocketAddr) -> Outcome {
    run(&Plan {
        connections: 4,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(50),
        requests,
        ..Plan::new(address)
    })
}

#[test]
fn a_window_lasts_until_it_holds_its_replies() {
    let outcome = run_until(10, slow_server(Duration::from_millis(40)));
    assert!(outcome.requests >= 10, "{outcome:?}");
    assert_eq!(outcome.errors, 0);
}

#[test]
fn a_window_does_not_last_for_ever() {
    let outcome = run_until(1_000_000, slow_server(Duration::from_millis(40)));
    assert!((0.5..5.0).contains(&outcome.seconds), "{outcome:?}");
    assert!(outcome.requests < 1_000_000);
}

#[test]
fn replies_in_pieces() {
    let address = server(|stream| {
        answer(stream, |stream| {
            for piece in OK.chunks(7) {
                stream.write_all(piece).unwrap_or_default();
                thread::sleep(Duration::from_micros(200));
            }
        });
    });
    let outcome = measure(address, Duration::ZERO);
    assert!(outcome.requests > 0);
    assert_eq!(outcome.errors, 0);
}

#[test]
fn other_statuses_are_errors() {
    let address = server(|stream| {
        let mut odd = false;
        answer(stream, |stream| {
            odd = !odd;
            let bad: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
            stream.write_all(if odd { bad } else { OK }).unwrap_or_default();
        });
    });
    let outcome = measure(address, Duration::ZERO);
    assert!(outcome.requests > 0);
    assert!(outcome.errors.abs_diff(outcome.requests) <= 4);
}

#[test]
fn lost_connections_are_errors_and_opened_again() {
    let address = server(drop);
    let outcome = measure(address, Duration::ZERO);
    assert_eq!(outcome.requests, 0);
    assert!(outcome.errors > 4, "{} errors", outcome.errors);
}

#[test]
fn short_replies_are_errors() {
    let address = server(|mut stream| {
        let mut request = [0; 1024];
        if let Ok(1..) = stream.read(&mut request) {
            stream.write_all(&OK[..OK.len() - 1]).unwrap_or_default();
        }
    });
    let outcome = measure(address, Duration::ZERO);
    assert_eq!(outcome.requests, 0);
    assert!(outcome.errors > 0);
}

#[test]
fn last_reply_before_a_close_counts() {
    let address = server(|mut stream| {
        let mut request = [0; 1024];
        if let Ok(1..) = stream.read(&mut request) {
            stream.write_all(OK).unwrap_or_default();
        }
    });
    let outcome = measure(address, Duration::ZERO);
    assert!(outcome.requests > 0);
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let outcome = measure(address, Duration::ZERO);
    assert_eq!(outcome.requests, 0);
    assert!(outcome.errors > 0);
}

#[test]
fn silent_server() {
    let address = server(|stream| answer(stream, |_| {}));
    let outcome = measure(address, Duration::ZERO);
    assert_eq!((outcome.requests, outcome.errors), (0, 0));
}
