// SPDX-License-Identifier: Apache-2.0
//! Device memory from libcuda.so.1, whichever the dynamic linker finds: the driver of a GPU, or the
//! fake one of the tests.

use anyhow::{anyhow, ensure, Result};
use libloading::Library;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;

/// A name for device memory: not an address that this process could read.
pub type Pointer = u64;

pub struct Driver {
    library: Library,
}

impl Driver {
    /// The driver, with the primary context of the GPU of that ordinal current on this thread.
    pub fn open(ordinal: c_int) -> Result<Self> {
        // SAFETY: the initialisers of a CUDA driver have no conditions.
        let driver = Driver { library: unsafe { Library::new("libcuda.so.1") }? };
        let mut device: c_int = 0;
        let mut context: *mut c_void = ptr::null_mut();
        // SAFETY: the signatures are those of the driver's interface.
        unsafe {
            driver.call::<unsafe extern "C" fn(c_uint) -> c_int>("cuInit", |f| f(0))?;
            driver.call::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(
                "cuDeviceGet",
                |f| f(&mut device, ordinal),
            )?;
            driver.call::<unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int>(
                "cuDevicePrimaryCtxRetain",
                |f| f(&mut context, device),
            )?;
            driver.call::<unsafe extern "C" fn(*mut c_void) -> c_int>(
                "cuCtxPushCurrent_v2",
                |f| f(context),
            )?;
        }
        Ok(driver)
    }

    pub fn is_fake(&self) -> bool {
        // SAFETY: the symbol is looked for, and not used.
        unsafe { self.library.get::<*const c_void>(b"fake_cuda_reset\0") }.is_ok()
    }

    pub fn allocate(&self, bytes: usize) -> Result<Pointer> {
        let mut pointer: Pointer = 0;
        // SAFETY: as above; pointer outlives the call.
        unsafe {
            self.call::<unsafe extern "C" fn(*mut Pointer, usize) -> c_int>("cuMemAlloc_v2", |f| {
                f(&mut pointer, bytes)
            })?;
        }
        Ok(pointer)
    }

    pub fn free(&self, pointer: Pointer) -> Result<()> {
        // SAFETY: as above.
        unsafe {
            self.call::<unsafe extern "C" fn(Pointer) -> c_int>("cuMemFree_v2", |f| f(pointer))
        }
    }

    pub fn write(&self, to: Pointer, from: &[u8]) -> Result<()> {
        // SAFETY: as above; the slice is as long as it says.
        unsafe {
            self.call::<unsafe extern "C" fn(Pointer, *const c_void, usize) -> c_int>(
                "cuMemcpyHtoD_v2",
                |f| f(to, from.as_ptr().cast(), from.len()),
            )
        }
    }

    pub fn read(&self, from: Pointer, bytes: usize) -> Result<Vec<u8>> {
        let mut to = vec![0; bytes];
        // SAFETY: as above; the vector is that long.
        unsafe {
            self.call::<unsafe extern "C" fn(*mut c_void, Pointer, usize) -> c_int>(
                "cuMemcpyDtoH_v2",
                |f| f(to.as_mut_ptr().cast(), from, bytes),
            )?;
        }
        Ok(to)
    }

    /// SAFETY: F is the signature of the function of that name.
    unsafe fn call<F: Copy>(&self, name: &str, with: impl FnOnce(F) -> c_int) -> Result<()> {
        let function = *self.library.get::<F>(name.as_bytes()).map_err(|e| anyhow!("{name}: {e}"))?;
        let result = with(function);
        ensure!(result == 0, "{name}: CUDA error {result}");
        Ok(())
    }
}
