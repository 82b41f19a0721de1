//! The command line of the load client.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::process::{exit, ExitCode};
use std::thread;

use cistern_load::load;
use cistern_load::plan::{Plan, USAGE};

/// As the comparison's own: 2 for a wrong command line.
const WRONG_COMMAND_LINE: u8 = 2;

fn main() -> ExitCode {
    let plan = match Plan::parse(lexopt::Parser::from_env()) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("cistern-load: {error}\n{USAGE}");
            return ExitCode::from(WRONG_COMMAND_LINE);
        }
    };
    if plan.until_stdin_closes {
        thread::spawn(exit_when_stdin_closes);
    }
    let outcome = load::run(
        &plan,
        || say("warm"),
        |outcome| {
            say(&outcome.to_json());
            if plan.until_stdin_closes {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    );
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cistern-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A line that the runner has at once. A runner that has gone away needs no answer.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        exit(1);
    }
}

/// Ties this process to the one that started it: stdin closes when that one ends, however it ends.
fn exit_when_stdin_closes() {
    let mut ignored = [0; 64];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut ignored) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => exit(0),
        }
    }
}
