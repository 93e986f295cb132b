//! Pointers into the caller's arrays, and the only places that follow them.
#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment)] // slices are made of arrays that were seen to be aligned, the rest goes by bytes

use std::ptr;

use super::{Array, buffer::Buffer};
use crate::{
    dtype::{DType, Values, ValuesMut},
    layout::Walk,
};

/// A pointer into an array of the caller; null where there is no array.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    data: *mut u8,
    dtype: DType,
}

impl Operand {
    pub(crate) const ABSENT: Self = Self { data: ptr::null_mut(), dtype: DType::F32 };

    pub(crate) fn new(array: &Array, offset: isize) -> Self {
        Self::at(array.layout.address.wrapping_add_signed(offset), array.dtype)
    }

    pub(crate) fn at(address: usize, dtype: DType) -> Self {
        Self { data: ptr::with_exposed_provenance_mut(address), dtype }
    }

    /// Is there no array?
    pub(crate) const fn is_absent(self) -> bool {
        self.data.is_null()
    }

    /// How its elements are stored, if there is one.
    pub(crate) const fn dtype(self) -> Option<DType> {
        if self.data.is_null() { None } else { Some(self.dtype) }
    }

    /// Where elements `at..at + len` of a dense order lie that starts `offset` bytes from here.
    pub(crate) fn addresses(self, offset: isize, at: usize, len: usize) -> std::ops::Range<usize> {
        let size = self.dtype.size();
        let first = self.data.addr().wrapping_add_signed(offset) + at * size;
        first..first + len * size
    }

    /// The elements from `at` on, in place.
    ///
    /// # Safety
    /// The array is dense and aligned, has these elements, and nobody writes them for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn values<'a>(self, at: usize, len: usize) -> Values<'a> {
        // SAFETY: as the caller promises, `at` and `len` are inside the array.
        unsafe {
            match self.dtype {
                _ if self.data.is_null() => Values::Absent,
                DType::F32 => Values::F32(std::slice::from_raw_parts(self.data.cast::<f32>().add(at), len)),
                DType::F64 => Values::F64(std::slice::from_raw_parts(self.data.cast::<f64>().add(at), len)),
                DType::Bf16 => Values::Bf16(std::slice::from_raw_parts(self.data.cast::<u16>().add(at), len)),
                DType::F16 => Values::F16(std::slice::from_raw_parts(self.data.cast::<u16>().add(at), len)),
            }
        }
    }

    /// The same to write.
    ///
    /// # Safety
    /// As [`Self::values`], and nobody else uses these elements for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn values_mut<'a>(self, at: usize, len: usize) -> ValuesMut<'a> {
        // SAFETY: as the caller promises, `at` and `len` are inside the array.
        unsafe {
            match self.dtype {
                _ if self.data.is_null() => ValuesMut::Absent,
                DType::F32 => ValuesMut::F32(std::slice::from_raw_parts_mut(self.data.cast::<f32>().add(at), len)),
                DType::F64 => ValuesMut::F64(std::slice::from_raw_parts_mut(self.data.cast::<f64>().add(at), len)),
                DType::Bf16 => ValuesMut::Bf16(std::slice::from_raw_parts_mut(self.data.cast::<u16>().add(at), len)),
                DType::F16 => ValuesMut::F16(std::slice::from_raw_parts_mut(self.data.cast::<u16>().add(at), len)),
            }
        }
    }

    /// Copies elements `start..start + len` of a walk (of the array itself without one) to the front of `out`.
    ///
    /// # Safety
    /// The array has these elements and nobody writes them meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn read(self, walk: Option<(&Walk, usize)>, start: usize, len: usize, out: &mut Buffer) {
        out.set_dtype(self.dtype());
        // SAFETY: as the caller promises; the types have the stored elements' sizes.
        unsafe {
            match self.dtype() {
                None => {}
                Some(DType::F32) => read_elements::<u32>(self.data, walk, start, &mut out.elements_mut()[..len]),
                Some(DType::F64) => read_elements::<u64>(self.data, walk, start, &mut out.elements_mut()[..len]),
                Some(DType::Bf16 | DType::F16) => {
                    read_elements::<u16>(self.data, walk, start, &mut out.elements_mut()[..len]);
                }
            }
        }
    }

    /// Copies the front of `from` back to where [`Self::read`] took it.
    ///
    /// # Safety
    /// As [`Self::read`], and nobody else uses the elements meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn write(self, walk: Option<(&Walk, usize)>, start: usize, len: usize, from: &Buffer) {
        // SAFETY: as the caller promises; the types have the stored elements' sizes.
        unsafe {
            match self.dtype() {
                None => {}
                Some(DType::F32) => write_elements::<u32>(&from.elements()[..len], self.data, walk, start),
                Some(DType::F64) => write_elements::<u64>(&from.elements()[..len], self.data, walk, start),
                Some(DType::Bf16 | DType::F16) => {
                    write_elements::<u16>(&from.elements()[..len], self.data, walk, start);
                }
            }
        }
    }
}

/// # Safety
/// `data` has elements `start..start + out.len()` of the walk (dense without one), which nobody writes meanwhile.
pub(super) unsafe fn read_elements<E: Copy>(
    data: *const u8,
    walk: Option<(&Walk, usize)>,
    start: usize,
    out: &mut [E],
) {
    let Some((walk, array)) = walk else {
        // SAFETY: dense, as the caller promises; copied as bytes, so alignment does not matter.
        unsafe {
            ptr::copy_nonoverlapping(data.add(start * size_of::<E>()), out.as_mut_ptr().cast(), size_of_val(out));
        };
        return;
    };
    let mut at = 0;
    while at < out.len() {
        let (offset, even, step) = walk.run(start + at, array);
        let end = out.len().min(at + even);
        for (i, value) in out[at..end].iter_mut().enumerate() {
            // SAFETY: the walk stays inside the array.
            *value = unsafe { data.offset(offset + i as isize * step).cast::<E>().read_unaligned() };
        }
        at = end;
    }
}

/// # Safety
/// As [`read_elements`], and nobody else uses the elements meanwhile.
pub(super) unsafe fn write_elements<E: Copy>(from: &[E], data: *mut u8, walk: Option<(&Walk, usize)>, start: usize) {
    let Some((walk, array)) = walk else {
        // SAFETY: dense, as the caller promises; copied as bytes, so alignment does not matter.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr().cast(), data.add(start * size_of::<E>()), size_of_val(from)) };
        return;
    };
    let mut at = 0;
    while at < from.len() {
        let (offset, even, step) = walk.run(start + at, array);
        let end = from.len().min(at + even);
        for (i, value) in from[at..end].iter().enumerate() {
            // SAFETY: the walk stays inside the array.
            unsafe { data.offset(offset + i as isize * step).cast::<E>().write_unaligned(*value) };
        }
        at = end;
    }
}
