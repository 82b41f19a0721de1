//! The counts of the measured window.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cpu;

/// A reply that takes longer than this is recorded as this long.
const MAX_LATENCY: Duration = Duration::from_secs(60);

/// Digits that a latency keeps: 0.1 %, well below the noise of any run.
const LATENCY_DIGITS: u8 = 3;

/// The edges of the buckets of latencies: a tenth of a millisecond, then each bucket ends a quarter
/// above the one before.
const FIRST_BUCKET_MICROS: u64 = 100;
const BUCKET_GROWTH: f64 = 1.25;

/// Counters that run from [`Tally::start`] to [`Tally::finish`].
#[derive(Debug)]
pub struct Tally {
    started: Instant,
    cpu_at_start: Duration,
    requests: u64,
    bytes: u64,
    errors: u64,
    latency_micros: Histogram<u64>,
}

impl Tally {
    /// Starts a window now.
    ///
    /// # Panics
    ///
    /// Never: the bounds of the histogram are constants.
    #[must_use]
    pub fn start() -> Self {
        let max = u64::try_from(MAX_LATENCY.as_micros()).expect("a minute fits");
        Self {
            started: Instant::now(),
            cpu_at_start: cpu::time(),
            requests: 0,
            bytes: 0,
            errors: 0,
            latency_micros: Histogram::new_with_max(max, LATENCY_DIGITS).expect("constant bounds"),
        }
    }

    /// Counts a whole reply with status 200.
    pub fn reply(&mut self, latency: Duration) {
        self.requests += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.saturating_record(micros);
    }

    /// Returns the number of replies so far.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.requests
    }

    /// Counts bytes of a head or a body.
    pub fn bytes(&mut self, count: usize) {
        self.bytes += count as u64;
    }

    /// Counts a failed request: another status, a short or malformed reply, a lost connection.
    pub fn error(&mut self) {
        self.errors += 1;
    }

    fn buckets(&self) -> Vec<Bucket> {
        self.latency_micros
            .iter_log(FIRST_BUCKET_MICROS, BUCKET_GROWTH)
            .map(|step| Bucket {
                edge_ms: step.value_iterated_to() as f64 / 1e3,
                count: step.count_since_last_iteration(),
            })
            .skip_while(|bucket| bucket.count == 0)
            .collect()
    }

    /// Closes the window.
    #[must_use]
    pub fn finish(&self) -> Outcome {
        let millis = |quantile| self.latency_micros.value_at_quantile(quantile) as f64 / 1e3;
        Outcome {
            requests: self.requests,
            bytes: self.bytes,
            errors: self.errors,
            seconds: self.started.elapsed().as_secs_f64(),
            latency_p50_ms: millis(0.5),
            latency_p90_ms: millis(0.9),
            latency_p99_ms: millis(0.99),
            latency_max_ms: self.latency_micros.max() as f64 / 1e3,
            latency: self.buckets(),
            cpu_seconds: cpu::time().saturating_sub(self.cpu_at_start).as_secs_f64(),
        }
    }
}

/// The replies whose time lies between the edge of the bucket before and this one's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// The longest time, in milliseconds.
    pub edge_ms: f64,
    /// The number of replies.
    pub count: u64,
}

/// The result of one measured window.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Replies with status 200 that came whole.
    pub requests: u64,
    /// Bytes read, heads included.
    pub bytes: u64,
    /// Requests that went wrong.
    pub errors: u64,
    /// Length of the window.
    pub seconds: f64,
    /// Median time from sending a request to having its reply.
    pub latency_p50_ms: f64,
    /// 90th percentile of the same.
    pub latency_p90_ms: f64,
    /// 99th percentile of the same.
    pub latency_p99_ms: f64,
    /// The slowest.
    pub latency_max_ms: f64,
    /// The distribution of the times, from the first bucket that holds any to the last.
    pub latency: Vec<Bucket>,
    /// Processor time of this client in the window, user and system.
    pub cpu_seconds: f64,
}

impl Outcome {
    /// Returns one line of JSON. All fields are finite numbers, so no escaping is needed.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!(
            concat!(
                r#"{{"requests":{},"bytes":{},"errors":{},"seconds":{:.6},"latencyP50Ms":{},"#,
                r#""latencyP90Ms":{},"latencyP99Ms":{},"latencyMaxMs":{},"#,
                r#""latency":{{"edgesMs":[{}],"counts":[{}]}},"cpuSeconds":{:.6}}}"#
            ),
            self.requests,
            self.bytes,
            self.errors,
            self.seconds,
            self.latency_p50_ms,
            self.latency_p90_ms,
            self.latency_p99_ms,
            self.latency_max_ms,
            listed(self.latency.iter().map(|bucket| bucket.edge_ms)),
            listed(self.latency.iter().map(|bucket| bucket.count)),
            self.cpu_seconds,
        )
    }
}

fn listed(numbers: impl Iterator<Item = impl ToString>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_percentiles() {
        let mut tally = Tally::start();
        for millis in 1..=100 {
            tally.reply(Duration::from_millis(millis));
            tally.bytes(10);
        }
        tally.error();
        let outcome = tally.finish();
        assert_eq!((outcome.requests, outcome.bytes, outcome.errors), (100, 1000, 1));
        for (value, expected) in [
            (outcome.latency_p50_ms, 50.0),
            (outcome.latency_p90_ms, 90.0),
            (outcome.latency_p99_ms, 99.0),
            (outcome.latency_max_ms, 100.0),
        ] {
            let error: f64 = (value - expected) / expected;
            assert!(error.abs() < 0.002, "{value} for {expected}");
        }
    }

    #[test]
    fn buckets_hold_every_reply_once() {
        let mut tally = Tally::start();
        for millis in 1..=100 {
            tally.reply(Duration::from_millis(millis));
        }
        let buckets = tally.finish().latency;
        assert!(buckets[0].count > 0, "it begins where the replies do");
        assert!(buckets.windows(2).all(|pair| pair[0].edge_ms < pair[1].edge_ms));
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 100);
        let until_ten: u64 =
            buckets.iter().filter(|bucket| bucket.edge_ms <= 10.0).map(|bucket| bucket.count).sum();
        assert!((8..=10).contains(&until_ten), "{until_ten}");
        assert!(tally.finish().to_json().contains(r#""latency":{"edgesMs":["#));
    }

    #[test]
    fn latency_above_the_limit() {
        let mut tally = Tally::start();
        tally.reply(Duration::from_secs(3600));
        assert_eq!(tally.finish().requests, 1);
    }

    #[test]
    fn json_of_an_empty_window() {
        let json = Tally::start().finish().to_json();
        assert!(json.starts_with(r#"{"requests":0,"bytes":0,"errors":0,"seconds":0."#));
        assert!(json.contains(r#""latencyP99Ms":0,"#));
        assert!(json.ends_with('}'));
    }
}
