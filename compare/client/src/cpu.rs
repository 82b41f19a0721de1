//! The processor time that this process has used.

use std::time::Duration;

/// Returns the processor time of this process so far, user and system.
#[cfg(unix)]
#[must_use]
pub fn time() -> Duration {
    use rustix::time::{clock_gettime, ClockId};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // A processor time is never negative, nor its nanoseconds above a second.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Returns the processor time of this process so far, user and system.
#[cfg(windows)]
#[must_use]
#[allow(unsafe_code)]
pub fn time() -> Duration {
    use windows_sys::Win32::Foundation::FILETIME;
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessTimes};

    /// Windows counts in these.
    const TICK_NANOS: u64 = 100;

    let ticks =
        |time: FILETIME| u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    let [mut made, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: it takes nothing, and what it gives names this process and need not be closed.
    let process = unsafe { GetCurrentProcess() };
    // Were it refused, all would stay at zero.
    // SAFETY: the handle is valid, and the four are written to while they are borrowed.
    unsafe { GetProcessTimes(process, &mut made, &mut ended, &mut kernel, &mut user) };
    Duration::from_nanos((ticks(kernel) + ticks(user)) * TICK_NANOS)
}
