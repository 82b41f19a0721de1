//! A function for Node that tells at which address the memory of a Buffer lies.
//!
//! JavaScript has no way to see it. The addresses of the Buffers that a program makes, one after
//! the other, tell whether it gets the same memory again.

use std::ffi::{c_char, c_void};
use std::ptr;

/// `napi_env`
type Env = *mut c_void;
/// `napi_value`
type Value = *mut c_void;
/// `napi_callback_info`
type CallbackInfo = *mut c_void;
/// `napi_callback`
type Callback = unsafe extern "C" fn(Env, CallbackInfo) -> Value;

/// `napi_ok`
const OK: i32 = 0;

/// `NAPI_AUTO_LENGTH`: a string that ends with a zero.
const AUTO_LENGTH: usize = usize::MAX;

extern "C" {
    fn napi_create_function(
        env: Env,
        name: *const c_char,
        length: usize,
        callback: Callback,
        data: *mut c_void,
        result: *mut Value,
    ) -> i32;
    fn napi_get_cb_info(
        env: Env,
        info: CallbackInfo,
        argc: *mut usize,
        argv: *mut Value,
        this: *mut Value,
        data: *mut *mut c_void,
    ) -> i32;
    fn napi_get_buffer_info(
        env: Env,
        value: Value,
        data: *mut *mut c_void,
        length: *mut usize,
    ) -> i32;
    fn napi_create_double(env: Env, value: f64, result: *mut Value) -> i32;
}

/// Makes the function that is the module. Node calls this when it loads the library.
///
/// # Safety
///
/// Only Node may call it, with what its documentation says.
#[no_mangle]
pub unsafe extern "C" fn napi_register_module_v1(env: Env, exports: Value) -> Value {
    let mut function = ptr::null_mut();
    // SAFETY: `env` is Node's, the name ends with a zero, and Node takes a null `data`.
    let status = unsafe {
        napi_create_function(
            env,
            c"addressOf".as_ptr(),
            AUTO_LENGTH,
            address_of,
            ptr::null_mut(),
            &mut function,
        )
    };
    if status == OK {
        function
    } else {
        exports
    }
}

/// Returns the address of the Buffer that is the argument, as a number; `undefined` for anything
/// else.
unsafe extern "C" fn address_of(env: Env, info: CallbackInfo) -> Value {
    let mut count = 1;
    let mut buffer = ptr::null_mut();
    // SAFETY: both belong to the call that Node makes now, and there is room for the one argument.
    let status = unsafe {
        napi_get_cb_info(env, info, &mut count, &mut buffer, ptr::null_mut(), ptr::null_mut())
    };
    if status != OK {
        return ptr::null_mut();
    }
    let mut data = ptr::null_mut();
    let mut length = 0;
    // SAFETY: an argument is a value of this call, also one that was not given, which is
    // `undefined`.
    let status = unsafe { napi_get_buffer_info(env, buffer, &mut data, &mut length) };
    if status != OK {
        return ptr::null_mut();
    }
    let mut address = ptr::null_mut();
    // A double is exact up to 2^53, and addresses of a program end at 2^48 or before.
    // SAFETY: `env` is that of this call.
    let status = unsafe { napi_create_double(env, data as usize as f64, &mut address) };
    if status == OK {
        address
    } else {
        ptr::null_mut()
    }
}
