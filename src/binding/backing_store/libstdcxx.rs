//! Backing stores of a V8 that was built against libstdc++: on Linux.

use crate::pool::Witness;
use napi::sys;
use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// `v8::ArrayBuffer::GetBackingStore()`
const GET_BACKING_STORE: &CStr = c"_ZN2v811ArrayBuffer15GetBackingStoreEv";

/// `v8::ArrayBuffer::New(v8::Isolate*, std::shared_ptr<v8::BackingStore>)`, with libstdc++'s
/// `shared_ptr`.
const NEW: &CStr = c"_ZN2v811ArrayBuffer3NewEPNS_7IsolateESt10shared_ptrINS_12BackingStoreEE";

/// `v8::Isolate::GetCurrent()`
const GET_CURRENT: &CStr = c"_ZN2v87Isolate10GetCurrentEv";

/// A `std::shared_ptr` as a function returns it: in memory of the caller, because its class has a
/// destructor. The room behind it makes Rust do the same, because it returns a plain struct of more
/// than 16 bytes in that way, too.
#[repr(C)]
struct SharedPointer {
    object: *mut c_void,
    control: *mut ControlBlock,
    room: MaybeUninit<[usize; 2]>,
}

type GetBackingStore = unsafe extern "C" fn(sys::napi_value) -> SharedPointer;

/// Moves the pointer out of the memory that its argument points to: the C++ ABI so passes objects
/// with a destructor. The caller destroys the moved-from object.
type New = unsafe extern "C" fn(*mut c_void, *mut SharedPointer) -> sys::napi_value;

type GetCurrent = unsafe extern "C" fn() -> *mut c_void;

/// V8's functions.
struct Functions {
    get_backing_store: GetBackingStore,
    new: New,
    get_current: GetCurrent,
}

/// libstdc++'s `_Sp_counted_base`.
#[repr(C)]
struct ControlBlock {
    methods: *const Methods,
    /// The number of owners of the object.
    uses: AtomicI32,
    /// The number of watchers, plus one for all owners together.
    weak_uses: AtomicI32,
}

/// Its virtual functions.
#[repr(C)]
struct Methods {
    destructors: [*const c_void; 2],
    /// Destroys the object.
    dispose: unsafe extern "C" fn(*mut ControlBlock),
    /// Frees the control block.
    destroy: unsafe extern "C" fn(*mut ControlBlock),
}

/// A `std::weak_ptr<v8::BackingStore>`.
struct WeakPointer(NonNull<ControlBlock>);

// SAFETY: any thread may use a control block, whose counts are atomic.
unsafe impl Send for WeakPointer {}

impl WeakPointer {
    fn control(&self) -> &ControlBlock {
        // SAFETY: it lives while anyone watches it, and this does.
        unsafe { self.0.as_ref() }
    }
}

impl Witness for WeakPointer {
    fn is_gone(&self) -> bool {
        // Acquire, with the release by which the last owner gave up: that also shows all that it
        // did to the memory.
        self.control().uses.load(Ordering::Acquire) == 0
    }
}

impl Drop for WeakPointer {
    fn drop(&mut self) {
        if self.control().weak_uses.fetch_sub(1, Ordering::AcqRel) == 1 {
            let methods = self.control().methods;
            // SAFETY: every control block has its class's functions.
            let destroy = unsafe { (*methods).destroy };
            // SAFETY: neither an owner nor another watcher is left.
            unsafe { destroy(self.0.as_ptr()) };
        }
    }
}

/// Gives up one share of a backing store, as `~shared_ptr` does.
fn give_up(control: NonNull<ControlBlock>) {
    let watcher = WeakPointer(control);
    if watcher.control().uses.fetch_sub(1, Ordering::AcqRel) == 1 {
        let methods = watcher.control().methods;
        // SAFETY: every control block has its class's functions.
        let dispose = unsafe { (*methods).dispose };
        // SAFETY: the last owner is gone.
        unsafe { dispose(control.as_ptr()) };
    } else {
        // The other owners still need their common watch.
        std::mem::forget(watcher);
    }
}

/// V8's functions, if all exist and take libstdc++'s `shared_ptr`.
static V8: LazyLock<Option<Functions>> = LazyLock::new(|| {
    let (get, new, current) = (find(GET_BACKING_STORE)?, find(NEW)?, find(GET_CURRENT)?);
    Some(Functions {
        // SAFETY: the name says what the function takes and returns; `this` is the content of a
        // `v8::Local`, and so of a `napi_value`.
        get_backing_store: unsafe {
            std::mem::transmute::<*mut c_void, GetBackingStore>(get.as_ptr())
        },
        // SAFETY: as above, and it returns a `v8::Local`.
        new: unsafe { std::mem::transmute::<*mut c_void, New>(new.as_ptr()) },
        // SAFETY: as above.
        get_current: unsafe { std::mem::transmute::<*mut c_void, GetCurrent>(current.as_ptr()) },
    })
});

fn find(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the name is a C string.
    NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// Returns a witness of an `ArrayBuffer`'s backing store; `None` if this runtime has none.
///
/// # Safety
///
/// The same as for [`Held::by`].
pub unsafe fn witness(array_buffer: sys::napi_value) -> Option<Box<dyn Witness>> {
    // SAFETY: passed on from the caller.
    let held = unsafe { Held::by(array_buffer) }?;
    let control = held.control();
    // SAFETY: `held` keeps its control block.
    unsafe { control.as_ref() }.weak_uses.fetch_add(1, Ordering::Relaxed);
    Some(Box::new(WeakPointer(control)))
}

/// A share of a backing store: a `std::shared_ptr<v8::BackingStore>`.
pub struct Held(SharedPointer);

impl Held {
    /// Returns whether this runtime allows it.
    pub fn is_possible() -> bool {
        V8.is_some()
    }

    /// Takes a share of the backing store that one `ArrayBuffer` owns.
    ///
    /// # Safety
    ///
    /// `array_buffer` is an attached `ArrayBuffer` of the calling thread's environment, in an open
    /// handle scope.
    pub unsafe fn by(array_buffer: sys::napi_value) -> Option<Self> {
        let v8 = V8.as_ref()?;
        // SAFETY: the caller vouches for the value, and `V8` for the function.
        let pointer = unsafe { (v8.get_backing_store)(array_buffer) };
        // SAFETY: a pointer that owns an object keeps its control block.
        let block = unsafe { pointer.control.as_ref() }?;
        let uses = block.uses.load(Ordering::Relaxed);
        let weak_uses = block.weak_uses.load(Ordering::Relaxed);
        // The ArrayBuffer and the pointer own it, and perhaps native code. All owners count as one
        // watcher, and a witness is another. Any other numbers mean that it is no control block.
        if pointer.object.is_null() || !(2..1000).contains(&uses) || !(1..=2).contains(&weak_uses) {
            return None;
        }
        Some(Self(pointer))
    }

    /// Makes a new `ArrayBuffer` of it. The first one must be detached.
    pub fn into_array_buffer(mut self) -> sys::napi_value {
        let v8 = V8.as_ref().expect("what gave the share");
        // SAFETY: `V8` vouches for the function.
        let isolate = unsafe { (v8.get_current)() };
        // SAFETY: as above; this thread has an isolate, which gave the share.
        unsafe { (v8.new)(isolate, &raw mut self.0) }
    }

    fn control(&self) -> NonNull<ControlBlock> {
        NonNull::new(self.0.control).expect("a share that was not taken out")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Null after V8 has moved it out.
        if let Some(control) = NonNull::new(self.0.control) {
            give_up(control);
        }
    }
}
