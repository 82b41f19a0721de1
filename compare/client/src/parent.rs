//! Ties this process to the one that started it.

use std::io::{self, Read, Write};
use std::process::exit;

/// Ends this process when stdin closes, which happens when the parent process ends in any way. Does
/// not return.
pub fn exit_when_stdin_closes() -> ! {
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

/// Prints a line that reaches the parent at once. It ignores a parent that has gone away.
pub fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        exit(1);
    }
}
