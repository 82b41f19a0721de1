//! The command line of the load client.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::thread;

use cistern_load::load;
use cistern_load::parent::{exit_when_stdin_closes, say};
use cistern_load::plan::{Plan, USAGE};

/// The exit code for a wrong command line, 2 as in the comparison itself.
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
        thread::spawn(|| exit_when_stdin_closes());
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
