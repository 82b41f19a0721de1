//! The call sites of leaks that a warning was given for, in all threads.

use crate::sync::Mutex;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::PoisonError;

/// The most warnings of a pool: a program that leaks everywhere must not flood its log.
const MOST_SITES: usize = 10;

/// The hashes of their stacks; empty places are 0.
#[derive(Default)]
pub struct LeakSites(Mutex<[u64; MOST_SITES]>);

impl LeakSites {
    /// Notes a call site by its stack. Returns its number from 1 up; 0 if it was noted before, or
    /// there are [`MOST_SITES`] already.
    pub fn note(&self, site: &str) -> u32 {
        let mut hasher = DefaultHasher::new();
        site.hash(&mut hasher);
        let hash = hasher.finish().max(1);
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, place) in (1..).zip(noted.iter_mut()) {
            if *place == hash {
                return 0;
            }
            if *place == 0 {
                *place = hash;
                return number;
            }
        }
        0
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn each_site_is_noted_once_and_only_the_first_ones() {
        let sites = LeakSites::default();
        for number in (1..).take(MOST_SITES) {
            assert_eq!(sites.note(&format!("site {number}")), number);
            assert_eq!(sites.note("site 1"), 0);
            assert_eq!(sites.note(&format!("site {number}")), 0);
        }
        assert_eq!(sites.note("another"), 0);
    }
}
