//! Arrays in a file that is mapped into memory: pages behind a sweep are let go of, so that a state larger than memory does
//! not push out everything else.
#![allow(unsafe_code)]

use std::ops::Range;

/// Addresses of a shared mapping of a file.
#[derive(Clone, Debug)]
pub struct Mapping(Range<usize>);

impl Mapping {
    /// # Safety
    /// These addresses are a shared, writable mapping of a file: what is let go of comes back from there.
    #[must_use]
    pub const unsafe fn new(addresses: Range<usize>) -> Self {
        Self(addresses)
    }

    /// Lets go of the pages that lie wholly in that part of the mapping; writing them to the file is the system's.
    pub fn release(&self, part: Range<usize>) {
        let page = page_size();
        let first = part.start.max(self.0.start).next_multiple_of(page);
        let last = part.end.min(self.0.end) / page * page;
        if first < last {
            // SAFETY: the pages are inside the mapping, whose maker promised that nothing is lost.
            unsafe { forget(first, last - first) };
        }
    }

    /// Lets go of all of it.
    pub fn release_all(&self) {
        self.release(0..usize::MAX);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::{c_int, c_long, c_void};

    unsafe extern "C" {
        pub(super) fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
        pub(super) fn sysconf(name: c_int) -> c_long;
    }

    pub(super) const MADV_DONTNEED: c_int = 4;
    pub(super) const SC_PAGESIZE: c_int = 30;
}

#[cfg(target_os = "linux")]
fn page_size() -> usize {
    // SAFETY: a question to the system without side effects.
    usize::try_from(unsafe { system::sysconf(system::SC_PAGESIZE) }).unwrap_or(1 << 16).max(1)
}

/// # Safety
/// Whole pages of a shared mapping of a file.
#[cfg(target_os = "linux")]
unsafe fn forget(address: usize, length: usize) {
    // SAFETY: as the caller promises. A refusal only means that the pages stay.
    unsafe { system::madvise(std::ptr::with_exposed_provenance_mut(address), length, system::MADV_DONTNEED) };
}

#[cfg(not(target_os = "linux"))]
const fn page_size() -> usize {
    1 << 16
}

/// # Safety
/// None is needed: elsewhere the system decides alone.
#[cfg(not(target_os = "linux"))]
const unsafe fn forget(_address: usize, _length: usize) {}
