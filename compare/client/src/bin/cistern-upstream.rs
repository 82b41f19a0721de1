//! The command line of the upstream server, and of the proxy without a garbage collector.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::thread;

use cistern_load::parent::{exit_when_stdin_closes, say};
use cistern_load::{forward, upstream};
use lexopt::prelude::*;

const USAGE: &str = "\
usage: cistern-upstream [--forward ADDRESS]

Answers `GET /N` with N bytes, or with what ADDRESS answers. Prints the port on which it listens, and ends
when stdin closes.";

/// The exit code for a wrong command line, 2 as in the comparison itself.
const WRONG_COMMAND_LINE: u8 = 2;

fn main() -> ExitCode {
    let forward = match parse() {
        Ok(Some(forward)) => forward,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("cistern-upstream: {error}\n{USAGE}");
            return ExitCode::from(WRONG_COMMAND_LINE);
        }
    };
    thread::spawn(|| exit_when_stdin_closes());
    match run(forward) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cistern-upstream: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(forward: Option<SocketAddr>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    say(&listener.local_addr()?.port().to_string());
    match forward {
        Some(address) => forward::serve(&listener, address),
        None => upstream::serve(&listener),
    }
}

/// Parses the address to forward to, if there is one; the outer `None` stands for `--help`.
fn parse() -> Result<Option<Option<SocketAddr>>, lexopt::Error> {
    let mut args = lexopt::Parser::from_env();
    let mut forward = None;
    while let Some(arg) = args.next()? {
        match arg {
            Long("forward") => forward = Some(args.value()?.parse()?),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(forward))
}
