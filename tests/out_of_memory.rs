//! The operating system refuses memory. In a process of its own, for its limit.
#![cfg(all(target_os = "linux", not(loom)))]

use cistern::pool::{Config, Lender, OutOfMemory, Pool, Refusal, SizeClass};

#[test]
fn refused_block_is_an_error_and_changes_nothing() {
    let pool = Pool::new(Config::default());
    let attachment = pool.attach();
    let class = SizeClass::fitting(1 << 30).expect("the largest class");
    // Half a GiB of address space more than there is in use, at most.
    let limit = libc::rlimit { rlim_cur: 1 << 29, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid limit for this process's own address space.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
    assert_eq!(result, 0);
    let before = pool.stats().total;
    let refusal = Refusal::OutOfMemory(OutOfMemory { bytes: 1 << 30 });
    assert_eq!(attachment.lend_fresh(class).err(), Some(refusal));
    assert_eq!(pool.held_bytes(), 0, "what was reserved is given up");
    assert_eq!(pool.stats().total, before);
    let small = SizeClass::fitting(4096).expect("a class");
    attachment.lend_fresh(small).expect("there is memory for a small one").settle(Lender::Alive);
}
