//! What a pool is told when it is made, and never again.

use std::time::Duration;

/// A pool's settings.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Config {
    /// What its users call it.
    pub name: String,
    /// The most that it ever holds, leased and idle together, in bytes.
    pub max_bytes: usize,
    /// Requests above this many bytes are not served from the pool. Kept for threads that attach.
    pub max_block_size: usize,
    /// Whether the synchronous calls throw at the ceiling. Kept for threads that attach.
    pub throws_when_exhausted: bool,
    /// Whether release detaches every view of the block, so that an idle `ArrayBuffer` is known
    /// to nobody but its magazine.
    pub detach_on_release: bool,
    /// Whether a block is overwritten with zeros before anyone else can have it.
    pub zero_on_release: bool,
    /// How long surplus memory may stay idle; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// The share of leases whose call site is recorded. Kept for threads that attach.
    pub leak_sample_rate: f64,
    /// The most that the depot keeps idle, in bytes.
    pub depot_bytes: usize,
    /// Whether blocks are memory of the pool's own. If not, they are memory of V8's, of which the
    /// pool keeps the counters.
    pub external: bool,
    /// Whether the trimmer's thread looks after it. Else whoever made it has to
    /// [`tend`](super::Pool::tend) it, so that a test can tell when that happens.
    pub has_trimmer: bool,
}

impl Config {
    /// How often what stayed unused is freed: so that nothing stays longer than `idle_timeout`.
    ///
    /// What is idle at one tick and was not needed until the next goes; it came at most two
    /// intervals ago.
    pub fn interval(&self) -> Duration {
        /// Below this, looking would cost more than the memory is worth.
        const SHORTEST: Duration = Duration::from_millis(1);
        /// Where nothing is freed by time: how often threads say whether anything is idle at all.
        const WITHOUT_TIMEOUT: Duration = Duration::from_secs(5);
        /// Above this, clocks may overflow.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.idle_timeout.map_or(WITHOUT_TIMEOUT, |timeout| (timeout / 2).clamp(SHORTEST, LONGEST))
    }

    /// Whether nothing may stay idle past the turn in which it was released.
    pub fn keeps_nothing_idle(&self) -> bool {
        self.idle_timeout == Some(Duration::ZERO)
    }
}

impl Default for Config {
    /// The defaults of the JavaScript options, without a ceiling.
    fn default() -> Self {
        Self {
            name: "pool".into(),
            max_bytes: usize::MAX,
            max_block_size: 32 << 20,
            throws_when_exhausted: false,
            detach_on_release: true,
            zero_on_release: false,
            idle_timeout: Some(Duration::from_secs(10)),
            leak_sample_rate: 1.0 / 128.0,
            depot_bytes: super::DEPOT_BYTES,
            external: true,
            has_trimmer: true,
        }
    }
}
