//! The plan that the command line asks for.

use std::net::SocketAddr;
use std::time::Duration;

use lexopt::prelude::*;

/// The text of `--help`.
pub const USAGE: &str = "\
usage: cistern-load ADDRESS [--connections N] [--warmup SECONDS] [--duration SECONDS] [--requests N]
                    [--path PATH | --sizes BYTES,...] [--until-stdin-closes]

Prints `warm` when the warm-up is over and one line of JSON when the measured window is.
--requests lasts longer than --duration, at most ten times as long, until so many replies have come.
--sizes asks for /BYTES, one size after the other and then again from the first; a reply with a body of
another length is an error.
--until-stdin-closes keeps the load up after that, and ends the client as soon as stdin closes.";

/// The usual number for `wrk`; enough to keep one Node process busy.
const DEFAULT_CONNECTIONS: usize = 20;

/// One more connection than this is a mistake in the command line, not a load on one machine.
const MAX_CONNECTIONS: usize = 10_000;

/// One load: its target, its amount and its length.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Keep-alive connections, each with one request in flight.
    pub connections: usize,
    /// Time under load before anything counts.
    pub warmup: Duration,
    /// Time that counts.
    pub duration: Duration,
    /// Replies that the window is to hold: it lasts up to ten times its duration until they have
    /// come.
    pub requests: u64,
    /// The path of every request, where no sizes are given.
    pub path: String,
    /// The sizes of the bodies to ask for, in turn: `/N` for each, and N bytes are expected.
    pub sizes: Vec<usize>,
    /// Keeps the load up after the result, until standard input closes.
    pub until_stdin_closes: bool,
}

impl Plan {
    /// Makes a plan for `address` with the defaults of the command line.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connections: DEFAULT_CONNECTIONS,
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(2),
            requests: 0,
            path: "/".to_owned(),
            sizes: Vec::new(),
            until_stdin_closes: false,
        }
    }

    /// Reads the arguments; `None` stands for `--help`.
    ///
    /// # Errors
    ///
    /// Tells which argument is wrong.
    pub fn parse(mut args: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut address = None;
        let mut plan = Self::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        while let Some(arg) = args.next()? {
            match arg {
                Long("connections") => plan.connections = args.value()?.parse()?,
                Long("warmup") => plan.warmup = seconds(&mut args)?,
                Long("duration") => plan.duration = seconds(&mut args)?,
                Long("requests") => plan.requests = args.value()?.parse()?,
                Long("path") => plan.path = args.value()?.string()?,
                Long("sizes") => plan.sizes = sizes(&args.value()?.string()?)?,
                Long("until-stdin-closes") => plan.until_stdin_closes = true,
                Long("help") | Short('h') => return Ok(None),
                Value(value) if address.is_none() => address = Some(value.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        plan.address = address.ok_or("an address such as 127.0.0.1:8080 is needed")?;
        if !(1..=MAX_CONNECTIONS).contains(&plan.connections) {
            return Err(format!("--connections must be 1 to {MAX_CONNECTIONS}").into());
        }
        if plan.duration.is_zero() {
            return Err("--duration must be above 0".into());
        }
        Ok(Some(plan))
    }
}

fn sizes(list: &str) -> Result<Vec<usize>, lexopt::Error> {
    let wrong = |_| format!("--sizes must be whole numbers with commas between them, not '{list}'");
    list.split(',')
        .map(|size| size.parse().map_err(wrong))
        .collect::<Result<_, _>>()
        .map_err(Into::into)
}

fn seconds(args: &mut lexopt::Parser) -> Result<Duration, lexopt::Error> {
    let value: f64 = args.value()?.parse()?;
    Duration::try_from_secs_f64(value).map_err(|error| error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Plan>, lexopt::Error> {
        Plan::parse(lexopt::Parser::from_args(args))
    }

    #[test]
    fn all_options() {
        let plan = parse(&[
            "127.0.0.1:80",
            "--connections=3",
            "--warmup",
            "0.25",
            "--duration",
            "1.5",
            "--requests=40",
            "--path",
            "/x",
            "--sizes=10,20",
            "--until-stdin-closes",
        ])
        .unwrap()
        .unwrap();
        assert_eq!(
            plan,
            Plan {
                address: "127.0.0.1:80".parse().unwrap(),
                connections: 3,
                warmup: Duration::from_millis(250),
                duration: Duration::from_millis(1500),
                requests: 40,
                path: "/x".to_owned(),
                sizes: vec![10, 20],
                until_stdin_closes: true,
            }
        );
    }

    #[test]
    fn wrong_arguments() {
        for args in [
            &[][..],
            &["nowhere"],
            &["127.0.0.1:80", "127.0.0.1:81"],
            &["127.0.0.1:80", "--connections", "0"],
            &["127.0.0.1:80", "--duration", "0"],
            &["127.0.0.1:80", "--warmup", "-1"],
            &["127.0.0.1:80", "--requests", "some"],
            &["127.0.0.1:80", "--sizes", "10,many"],
            &["127.0.0.1:80", "--sizes", ""],
            &["127.0.0.1:80", "--unknown"],
        ] {
            assert!(parse(args).is_err(), "{args:?} was taken");
        }
    }

    #[test]
    fn help() {
        assert_eq!(parse(&["--help"]).unwrap(), None);
    }
}
