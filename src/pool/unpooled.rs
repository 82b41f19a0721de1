//! The leases that V8 serves: at the ceiling, above the largest block, and of no bytes.
//!
//! V8 owns that memory. The pool neither frees nor reuses it. It only knows the address, so that
//! any thread can release it.

use super::class_counters::Count;
use super::witness::Witness;
use crate::sync::{Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of records that each insertion looks at: more than one, so that dropped leases don't
/// pile up.
const LOOKS_EACH: usize = 2;

/// The most records of lost leases without a witness.
const MOST_LOST: usize = 4096;

/// The most records for which a table is not worth shrinking.
const FEWEST: usize = 64;

/// Identifies one lease: by its address, and a number that no other lease has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpooledKey {
    address: usize,
    number: u64,
}

impl UnpooledKey {
    fn new(address: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness counts.
        Self { address, number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }
}

/// The leases that V8 serves, by the addresses of their memory.
///
/// ```text
///              ┌── release, release_at ──▶ released
///   insert ──▶ leased
///              └── the memory is gone ───▶ collected
/// ```
///
/// JavaScript can move the memory to another `ArrayBuffer`, in any thread. So a lease ends in a
/// [sweep](Self::sweep), when its witness says that the memory is gone. Without a witness it counts
/// as collected once its first `ArrayBuffer` is [lost](Self::lose). Its record stays for a while,
/// because another holder may still release the memory.
pub struct UnpooledTable {
    records: Mutex<Records>,
    released: Count,
    collected: Count,
}

impl Default for UnpooledTable {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Default)]
struct Records {
    all: Vec<Record>,
    /// The index of each among them, by address.
    places: HashMap<usize, usize>,
    /// The index at which the next look begins.
    next: usize,
    /// Lost leases without a witness, the oldest first. Some may have ended since.
    lost: VecDeque<UnpooledKey>,
}

struct Record {
    key: UnpooledKey,
    size: usize,
    is_leased: bool,
    /// True if it already counts as collected.
    is_lost: bool,
    witness: Option<Box<dyn Witness>>,
}

impl Record {
    fn is_gone(&self) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.is_gone())
    }
}

impl Records {
    /// Returns the index of the record of `size` bytes at `address`, if that memory still exists.
    fn find(&self, address: usize, size: usize) -> Option<usize> {
        let place = *self.places.get(&address)?;
        let record = &self.all[place];
        (record.size == size && !record.is_gone()).then_some(place)
    }

    fn named(&self, key: UnpooledKey) -> Option<usize> {
        let place = *self.places.get(&key.address)?;
        (self.all[place].key == key).then_some(place)
    }

    /// Returns whether there is memory for one more.
    fn has_room(&mut self) -> bool {
        self.all.try_reserve(1).is_ok() && self.places.try_reserve(1).is_ok()
    }

    fn push(&mut self, record: Record) {
        self.places.insert(record.key.address, self.all.len());
        self.all.push(record);
    }

    fn remove(&mut self, place: usize) -> Record {
        let record = self.all.swap_remove(place);
        self.places.remove(&record.key.address);
        if let Some(moved) = self.all.get(place) {
            self.places.insert(moved.key.address, place);
        }
        record
    }
}

impl UnpooledTable {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self { records: Mutex::default(), released: Count::default(), collected: Count::default() }
    }

    /// Notes a lease of `size` bytes of V8's memory at `address`. Without memory for the record,
    /// only the `ArrayBuffer` that was leased can release it.
    pub fn insert(
        &self,
        address: usize,
        size: usize,
        witness: Option<Box<dyn Witness>>,
    ) -> UnpooledKey {
        let key = UnpooledKey::new(address);
        let mut records = self.records();
        self.look(&mut records, LOOKS_EACH);
        // V8 has just allocated there, so nobody has the earlier memory of this address.
        if let Some(place) = records.places.get(&address).copied() {
            self.end(&records.remove(place));
        }
        if records.has_room() {
            records.push(Record { key, size, is_leased: true, is_lost: false, witness });
        }
        key
    }

    /// Releases the `size` bytes at `address`, for the thread that leased them and counts that
    /// itself; `detached`: nobody will have the memory any more.
    pub fn release(&self, address: usize, size: usize, detached: bool) {
        let mut records = self.records();
        let Some(place) = records.find(address, size) else { return };
        records.all[place].is_leased = false;
        if detached {
            records.remove(place);
        }
    }

    /// Returns whether the `size` bytes at `address` are leased; `None` if the pool knows no such
    /// memory.
    pub fn is_leased(&self, address: usize, size: usize) -> Option<bool> {
        let records = self.records();
        records.find(address, size).map(|place| records.all[place].is_leased)
    }

    /// Releases the `size` bytes at `address` for another `ArrayBuffer` or thread, which detaches
    /// them next. Returns whether they were leased until now.
    pub fn release_at(&self, address: usize, size: usize) -> bool {
        let mut records = self.records();
        let Some(place) = records.find(address, size) else { return false };
        if !records.all[place].is_leased {
            return false;
        }
        if records.remove(place).is_lost {
            self.collected.take();
        }
        self.released.add();
        true
    }

    /// Notes that the garbage collector has taken the leased `ArrayBuffer`. Its memory may be in
    /// another.
    pub fn lose(&self, key: UnpooledKey) {
        let mut records = self.records();
        let Some(place) = records.named(key) else { return };
        let record = &mut records.all[place];
        // The witness knows.
        if record.witness.is_some() {
            return;
        }
        if record.is_leased {
            record.is_lost = true;
            self.collected.add();
        }
        // Finalizers call this: a refusal of memory must not abort the process.
        if records.lost.try_reserve(1).is_err() {
            records.remove(place);
            return;
        }
        records.lost.push_back(key);
        if records.lost.len() > MOST_LOST
            && let Some(oldest) = records.lost.pop_front()
            && let Some(place) = records.named(oldest)
        {
            records.remove(place);
        }
    }

    /// Ends leases whose memory is gone. Looks at no more than `looks` of them, at others each
    /// time.
    pub fn sweep(&self, looks: usize) {
        self.look(&mut self.records(), looks);
    }

    fn look(&self, records: &mut Records, looks: usize) {
        for _ in 0..looks.min(records.all.len()) {
            let place = records.next % records.all.len();
            if records.all[place].is_gone() {
                // The last one moves to this index, and is looked at next.
                self.end(&records.remove(place));
                records.next = place;
                if records.all.is_empty() {
                    return;
                }
            } else {
                records.next = place + 1;
            }
        }
    }

    /// Ends a lease whose record was removed because its memory is gone.
    fn end(&self, record: &Record) {
        if record.is_leased && !record.is_lost {
            self.collected.add();
        }
    }

    /// Returns how many were released by another thread, or by another `ArrayBuffer`.
    pub fn released(&self) -> u64 {
        self.released.get()
    }

    /// Returns how many leases ended in the garbage collector.
    pub fn collected(&self) -> u64 {
        self.collected.get()
    }

    /// Returns how many bytes the table takes.
    pub fn bytes(&self) -> usize {
        let records = self.records();
        records.all.capacity() * size_of::<Record>()
            + records.places.capacity() * (size_of::<(usize, usize)>() + 1)
            + records.lost.capacity() * size_of::<UnpooledKey>()
    }

    /// Shrinks the table after many leases have ended.
    pub fn shrink(&self) {
        let mut records = self.records();
        if records.all.capacity() > FEWEST && records.all.len() * 8 <= records.all.capacity() {
            records.all.shrink_to_fit();
            records.places.shrink_to_fit();
        }
        if records.lost.capacity() > FEWEST && records.lost.len() * 8 <= records.lost.capacity() {
            records.lost.shrink_to_fit();
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    #[derive(Clone, Default)]
    struct TestWitness(Arc<AtomicBool>);

    impl TestWitness {
        fn set_gone(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Witness for TestWitness {
        fn is_gone(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn watched(table: &UnpooledTable, address: usize) -> (UnpooledKey, TestWitness) {
        let witness = TestWitness::default();
        (table.insert(address, 100, Some(Box::new(witness.clone()))), witness)
    }

    fn counts(table: &UnpooledTable) -> (u64, u64) {
        (table.released(), table.collected())
    }

    #[test]
    fn released_where_it_was_leased() {
        let table = UnpooledTable::new();
        watched(&table, 64);
        assert_eq!(table.is_leased(64, 100), Some(true));
        assert_eq!((table.is_leased(64, 99), table.is_leased(65, 100)), (None, None));
        table.release(64, 100, false);
        assert_eq!(table.is_leased(64, 100), Some(false), "an ArrayBuffer still has it");
        assert!(!table.release_at(64, 100));
        table.release(64, 100, true);
        assert_eq!(table.is_leased(64, 100), None);
        assert_eq!(counts(&table), (0, 0), "the thread counts it");
    }

    #[test]
    fn released_elsewhere_once() {
        let table = UnpooledTable::new();
        let (key, witness) = watched(&table, 64);
        assert!(!table.release_at(64, 99));
        assert!(table.release_at(64, 100));
        assert!(!table.release_at(64, 100));
        witness.set_gone();
        table.lose(key);
        table.sweep(10);
        assert_eq!(counts(&table), (1, 0));
    }

    #[test]
    fn dropped_wherever_it_has_gone() {
        let table = UnpooledTable::new();
        let (key, witness) = watched(&table, 64);
        table.lose(key);
        table.sweep(10);
        assert_eq!((table.is_leased(64, 100), counts(&table)), (Some(true), (0, 0)));
        witness.set_gone();
        assert_eq!(table.is_leased(64, 100), None, "foreign memory may lie there now");
        assert!(!table.release_at(64, 100));
        table.release(64, 100, true);
        table.sweep(10);
        table.sweep(10);
        assert_eq!(counts(&table), (0, 1));
    }

    #[test]
    fn looks_see_all_in_turn() {
        let table = UnpooledTable::new();
        let all: Vec<_> = (1..=100).map(|i| watched(&table, 64 * i).1).collect();
        for (gone, witness) in all.iter().rev().enumerate() {
            witness.set_gone();
            (0..10).for_each(|_| table.sweep(10));
            assert_eq!(table.collected(), gone as u64 + 1);
        }
        table.sweep(10);
        assert_eq!(counts(&table), (0, 100));
    }

    #[test]
    fn records_of_dropped_leases_do_not_pile_up() {
        let table = UnpooledTable::new();
        for i in 1..10_000 {
            watched(&table, 64 * i).1.set_gone();
        }
        assert!(table.collected() > 9_000, "{}", table.collected());
    }

    #[test]
    fn lost_without_a_witness() {
        let table = UnpooledTable::new();
        let key = table.insert(64, 100, None);
        table.lose(key);
        assert_eq!(counts(&table), (0, 1));
        assert!(table.release_at(64, 100), "it had been moved");
        assert_eq!(counts(&table), (1, 0));
        let first = 128;
        for i in 0..=MOST_LOST {
            table.lose(table.insert(first + i, 100, None));
        }
        assert_eq!(table.is_leased(first, 100), None, "the oldest of too many");
        assert_eq!(table.is_leased(first + 1, 100), Some(true));
        assert_eq!(table.collected(), MOST_LOST as u64 + 1);
    }

    #[test]
    fn the_next_one_at_the_same_place() {
        let table = UnpooledTable::new();
        let first = table.insert(64, 100, None);
        let second = table.insert(64, 100, None);
        assert_eq!(table.collected(), 1);
        table.lose(first);
        assert_eq!((table.is_leased(64, 100), table.collected()), (Some(true), 1));
        table.lose(second);
        table.insert(64, 100, None);
        assert_eq!(counts(&table), (0, 2));
    }

    #[test]
    fn what_was_released_is_not_collected() {
        let table = UnpooledTable::new();
        let (_, witness) = watched(&table, 64);
        table.release(64, 100, false);
        witness.set_gone();
        table.sweep(10);
        let unwatched = table.insert(64, 100, None);
        table.release(64, 100, false);
        table.lose(unwatched);
        assert_eq!(table.is_leased(64, 100), Some(false));
        assert_eq!(counts(&table), (0, 0));
    }

    #[test]
    fn memory_of_its_own_goes_with_the_leases() {
        let table = UnpooledTable::new();
        let addresses = || (1..10_000).map(|i| 64 * i);
        for address in addresses() {
            table.insert(address, 100, None);
        }
        assert!(table.bytes() > 9_999 * 64);
        for address in addresses() {
            table.release(address, 100, true);
        }
        table.shrink();
        assert!(table.bytes() < 10_000, "{}", table.bytes());
    }
}
