//! Ties this process to the one that started it.

use std::io::{self, Read, Write};
use std::process::exit;

/// Ends this process when stdin closes, which it does when the one that started it ends, however it
/// ends. Does not return.
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

/// A line that the parent has at once. One that has gone away needs no answer.
pub fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        exit(1);
    }
}
