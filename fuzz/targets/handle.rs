//! Handles, by which threads find a pool. Anything but a pool's own handle leads to none.
#![no_main]

use arbitrary::Arbitrary;
use cistern::pool::{Config, Handle, NoPool, Pool};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

/// A number of a handle: of the process, of the pool, and the proof.
const WORD: usize = 8;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Text(String),
    /// A pool's own handle, with these bits flipped.
    Flips(Vec<u8>),
    /// Each number of the handle from one of three: two pools', and that of one that is gone.
    Mix([u8; 3]),
    /// A pool's own handle, with some digits in capitals.
    Capitals(u64),
}

static POOLS: LazyLock<[Arc<Pool>; 2]> =
    LazyLock::new(|| std::array::from_fn(|_| Pool::new(Config::default())));

static GONE: LazyLock<Handle> = LazyLock::new(|| Pool::new(Config::default()).handle());

fuzz_target!(|input: Input| {
    let own = POOLS[0].handle().to_bytes();
    match input {
        Input::Bytes(bytes) => check(&bytes),
        Input::Text(text) => check_text(&text),
        Input::Flips(bits) => {
            let mut bytes = own;
            for bit in bits {
                let bit = usize::from(bit) % (8 * bytes.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            check(&bytes);
            let reason =
                if bytes[..WORD] == own[..WORD] { NoPool::Forged } else { NoPool::Foreign };
            assert_eq!(find(&bytes).err(), (bytes != own).then_some(reason));
        }
        Input::Mix(picks) => {
            let handles = [own, POOLS[1].handle().to_bytes(), GONE.to_bytes()];
            let pick = |i: usize| handles[usize::from(picks[i / WORD]) % handles.len()][i];
            check(&std::array::from_fn::<u8, { Handle::BYTES }, _>(pick));
        }
        Input::Capitals(digits) => {
            let capital = |(i, digit): (usize, char)| {
                if digits >> (i % 64) & 1 == 1 { digit.to_ascii_uppercase() } else { digit }
            };
            let text: String =
                POOLS[0].handle().to_text().chars().enumerate().map(capital).collect();
            let found = Handle::from_text(&text).and_then(Handle::find);
            assert!(found.is_ok_and(|pool| Arc::ptr_eq(&pool, &POOLS[0])));
        }
    }
});

fn find(bytes: &[u8]) -> Result<Arc<Pool>, NoPool> {
    Handle::from_bytes(bytes)?.find()
}

/// Checks that bytes lead to the pool whose handle they are, or to none.
fn check(bytes: &[u8]) {
    let own = POOLS.iter().find(|pool| pool.handle().to_bytes() == bytes);
    match (find(bytes), own) {
        (Ok(found), Some(own)) => assert!(Arc::ptr_eq(&found, own)),
        (Err(reason), None) => {
            assert_eq!(reason == NoPool::Malformed, bytes.len() != Handle::BYTES);
            assert!(*bytes != GONE.to_bytes() || reason == NoPool::Stale);
        }
        (found, _) => panic!("{bytes:?} lead to {}", if found.is_ok() { "a pool" } else { "none" }),
    }
    if let Ok(handle) = Handle::from_bytes(bytes) {
        assert_eq!(handle.to_bytes(), bytes);
        assert_eq!(Handle::from_text(&handle.to_text()), Ok(handle));
    }
}

/// Checks that text is parsed as the digits of bytes, or not at all.
fn check_text(text: &str) {
    if let Ok(handle) = Handle::from_text(text) {
        assert_eq!(handle.to_text(), text.to_ascii_lowercase());
        check(&handle.to_bytes());
    }
}
