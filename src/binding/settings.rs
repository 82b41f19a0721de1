//! A pool's settings, as JavaScript passes them.

use super::number::{to_number, to_size};
use crate::pool::{Config, DEPOT_BYTES};
use napi_derive::napi;
use std::time::Duration;

/// The options of `index.d.ts`. `lib/pool/options.js` has checked each.
#[napi(object)]
pub struct Settings {
    pub name: String,
    /// In bytes.
    pub max_bytes: f64,
    /// In bytes.
    pub max_block_size: f64,
    pub throws_when_exhausted: bool,
    pub detach_on_release: bool,
    pub zero_on_release: bool,
    /// In milliseconds; `Infinity` means no limit.
    pub idle_timeout: f64,
    pub leak_sample_rate: f64,
}

impl Settings {
    /// Converts them for the core; `external`: whether the runtime allows memory of our own.
    pub fn into_config(self, external: bool) -> Config {
        Config {
            name: self.name,
            max_bytes: to_size(self.max_bytes),
            max_block_size: to_size(self.max_block_size),
            throws_when_exhausted: self.throws_when_exhausted,
            detach_on_release: self.detach_on_release,
            zero_on_release: self.zero_on_release,
            // A time that does not fit into a `Duration` outlasts the machine.
            idle_timeout: Duration::try_from_secs_f64(self.idle_timeout / 1000.0).ok(),
            leak_sample_rate: self.leak_sample_rate,
            depot_bytes: DEPOT_BYTES,
            external,
            has_trimmer: true,
        }
    }
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            name: config.name.clone(),
            max_bytes: match config.max_bytes {
                usize::MAX => f64::INFINITY,
                bytes => to_number(bytes as u64),
            },
            max_block_size: to_number(config.max_block_size as u64),
            throws_when_exhausted: config.throws_when_exhausted,
            detach_on_release: config.detach_on_release,
            zero_on_release: config.zero_on_release,
            idle_timeout: config
                .idle_timeout
                .map_or(f64::INFINITY, |timeout| timeout.as_secs_f64() * 1000.0),
            leak_sample_rate: config.leak_sample_rate,
        }
    }
}
