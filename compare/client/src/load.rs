//! The loop over all connections, and its phases: warm-up, measured window, and if asked for the
//! time after it.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use crate::connection::{Connection, Shared};
use crate::plan::Plan;
use crate::script::Script;
use crate::tally::{Outcome, Tally};

/// Pause before a lost connection is opened again: a server that refuses must not turn the client
/// into a busy loop.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The most by which a warm-up may be extended, until the first reply has come. A server that reads
/// 200 files of megabytes at the same time answers none of them for a second, or for two.
const FIRST_REPLY: Duration = Duration::from_secs(6);

/// The longest that a window may become to hold its replies, as a multiple of its duration.
const LONGEST_WINDOW: u32 = 10;

/// Read at a time. Large enough that a body of megabytes takes few system calls, small enough for
/// the second-level cache.
const READ_BYTES: usize = 256 * 1024;

/// Longest sleep while no phase ends.
const MAX_SLEEP: Duration = Duration::from_secs(1);

enum Phase {
    Warmup { ends: Instant },
    Measured { ends: Instant },
    After,
}

/// Puts the load on the server. `on_warm` is called when the warm-up ends, `on_measured` with the
/// result; the load stays up after that if it says `Continue`.
///
/// # Errors
///
/// When the system's poll fails. Anything that the server does is counted and not an error.
pub fn run(
    plan: &Plan,
    on_warm: impl FnOnce(),
    on_measured: impl FnOnce(&Outcome) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(plan.connections);
    let mut slots: Vec<Option<Connection>> = Vec::new();
    slots.resize_with(plan.connections, || None);
    let mut retry_at = Some(Instant::now());

    let mut shared =
        Shared { script: Script::new(plan), tally: Tally::start(), scratch: vec![0; READ_BYTES] };
    let mut phase = Phase::Warmup { ends: Instant::now() + plan.warmup };
    let mut on_warm = Some(on_warm);
    let mut on_measured = Some(on_measured);

    loop {
        let now = Instant::now();
        if retry_at.is_some_and(|at| at <= now) {
            retry_at =
                open_missing(plan, &poll, &mut slots, &mut shared.tally).then(|| now + RETRY_PAUSE);
        }
        match phase {
            Phase::Warmup { ends } if ends <= now && !is_cold(plan, &shared.tally, ends, now) => {
                shared.tally = Tally::start();
                phase = Phase::Measured { ends: Instant::now() + plan.duration };
                if let Some(on_warm) = on_warm.take() {
                    on_warm();
                }
            }
            Phase::Measured { ends }
                if ends <= now && !is_short(plan, &shared.tally, ends, now) =>
            {
                let outcome = shared.tally.finish();
                phase = Phase::After;
                if let Some(on_measured) = on_measured.take() {
                    if on_measured(&outcome).is_break() {
                        return Ok(());
                    }
                }
            }
            _ => {}
        }

        let sleep = sleep_until(&phase, retry_at, Instant::now());
        match poll.poll(&mut events, Some(sleep)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        for event in &events {
            let slot = &mut slots[event.token().0];
            let Some(connection) = slot else { continue };
            if connection.drive(event, &mut shared).is_err() {
                if let Some(lost) = slot.take() {
                    // The socket is closed by the drop anyway, so a refusal changes nothing.
                    let _ = lost.close(poll.registry());
                }
                retry_at.get_or_insert_with(|| Instant::now() + RETRY_PAUSE);
            }
        }
    }
}

/// Returns whether the client still waits for the first reply. Without a warm-up it never does.
fn is_cold(plan: &Plan, tally: &Tally, ends: Instant, now: Instant) -> bool {
    !plan.warmup.is_zero() && tally.replies() == 0 && now < ends + FIRST_REPLY
}

/// Returns whether the window continues, because it does not hold its replies yet.
fn is_short(plan: &Plan, tally: &Tally, ends: Instant, now: Instant) -> bool {
    tally.replies() < plan.requests && now < ends + plan.duration * (LONGEST_WINDOW - 1)
}

/// Opens all closed connections. Returns true if some could not be opened.
fn open_missing(
    plan: &Plan,
    poll: &Poll,
    slots: &mut [Option<Connection>],
    tally: &mut Tally,
) -> bool {
    let mut missing = false;
    for (index, slot) in slots.iter_mut().enumerate() {
        if slot.is_none() {
            *slot = Connection::open(plan.address, poll.registry(), Token(index)).ok();
            if slot.is_none() {
                tally.error();
                missing = true;
            }
        }
    }
    missing
}

fn sleep_until(phase: &Phase, retry_at: Option<Instant>, now: Instant) -> Duration {
    let phase_ends = match phase {
        // After the end of a phase it waits a little, or until a reply wakes it.
        Phase::Warmup { ends } | Phase::Measured { ends } if *ends <= now => {
            Some(now + RETRY_PAUSE)
        }
        Phase::Warmup { ends } | Phase::Measured { ends } => Some(*ends),
        Phase::After => None,
    };
    let next = [phase_ends, retry_at].into_iter().flatten().min();
    next.map_or(MAX_SLEEP, |at| at.saturating_duration_since(now).min(MAX_SLEEP))
}
