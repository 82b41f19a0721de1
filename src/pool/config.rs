//! The settings that a pool is made with. They never change.

use std::time::Duration;

/// A pool's settings.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Config {
    /// The name that its users gave it.
    pub name: String,
    /// The most that it ever holds, leased and idle together, in bytes.
    pub max_bytes: usize,
    /// The pool serves no request above this many bytes. Stored for threads that attach.
    pub max_block_size: usize,
    /// True if the synchronous calls throw at the ceiling. Stored for threads that attach.
    pub throws_when_exhausted: bool,
    /// True if release detaches every view of the block, so that only the magazine can reach an
    /// idle `ArrayBuffer`.
    pub detach_on_release: bool,
    /// True if a released block is overwritten with zeros before its next owner gets it.
    pub zero_on_release: bool,
    /// The time that unused memory may stay idle; `None` for no limit.
    pub idle_timeout: Option<Duration>,
    /// The share of leases whose call site is recorded. Stored for threads that attach.
    pub leak_sample_rate: f64,
    /// The most bytes that the depot stores.
    pub depot_bytes: usize,
    /// True if blocks are the pool's own memory. If not, V8 has the memory, and the pool only
    /// counts.
    pub external: bool,
    /// True if the trimmer's thread watches the pool. If not, its maker must call
    /// [`visit`](super::Pool::visit), so that a test decides when.
    pub has_trimmer: bool,
}

impl Config {
    /// Returns the time between two ticks, so that no unused block stays longer than
    /// `idle_timeout`.
    ///
    /// A tick frees the blocks that were idle at the one before and not needed since. They became
    /// idle at most two intervals ago.
    pub fn interval(&self) -> Duration {
        /// More frequent looks would cost more than the memory is worth.
        const SHORTEST: Duration = Duration::from_millis(1);
        /// Without a timeout, the interval at which threads report whether anything is idle.
        const WITHOUT_TIMEOUT: Duration = Duration::from_secs(5);
        /// A longer one may overflow the clock.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.idle_timeout.map_or(WITHOUT_TIMEOUT, |timeout| (timeout / 2).clamp(SHORTEST, LONGEST))
    }

    /// Returns whether no block may stay idle past the event-loop turn of its release.
    pub fn stores_nothing(&self) -> bool {
        self.idle_timeout == Some(Duration::ZERO)
    }
}

impl Default for Config {
    /// The defaults of the JavaScript options, without a ceiling.
    ///
    /// JavaScript passes all its options (`lib/pool/options.js`), so only tests, fuzzing and
    /// benches use these.
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
