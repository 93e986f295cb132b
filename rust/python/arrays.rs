//! NumPy arrays as the core sees them: data, dtype, shape and strides, read once and compared before each use.
#![allow(unsafe_code)]

use numpy::{
    Element, PyArray1, PyArrayDescr, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray,
    PyUntypedArrayMethods,
    npyffi::{NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, objects::PyArrayObject_fields},
};
use pyo3::{prelude::*, sync::PyOnceLock};
use smallvec::SmallVec;

use super::{type_error, value_error};
use crate::{
    array::{Array, Bytes, BytesMut, Input, Output},
    dtype::DType,
    layout::Layout,
    optim::{mapping::Mapping, row::Row, table::Rows, tensors::Gradient},
};

/// An array's name for messages, made only when one is needed.
pub(super) type Name<'a> = &'a dyn Fn() -> String;

/// An array and what it was like when it was taken.
#[derive(Debug)]
pub(super) struct Taken {
    object: Py<PyAny>,
    data: usize,
    descr: usize,
    flags: i32,
    dtype: DType,
    /// Shape, then strides; those of three axes need no allocation.
    numbers: SmallVec<[isize; 6]>,
}

/// The addresses of the dtype objects that arrays usually carry.
fn usual_descrs(py: Python<'_>) -> PyResult<&'static [(usize, DType)]> {
    static DESCRS: PyOnceLock<Vec<(usize, DType)>> = PyOnceLock::new();
    let known = DESCRS.get_or_try_init(py, || -> PyResult<_> {
        let bfloat16 = py.import("ml_dtypes")?.getattr("bfloat16")?;
        let float16 = PyArrayDescr::new(py, "float16")?;
        let descrs = [
            (numpy::dtype::<f32>(py), DType::F32),
            (numpy::dtype::<f64>(py), DType::F64),
            (PyArrayDescr::new(py, bfloat16)?, DType::Bf16),
            (float16, DType::F16),
        ];
        // Kept alive for ever, so that an address keeps its meaning.
        Ok(descrs.into_iter().map(|(descr, dtype)| (descr.into_ptr() as usize, dtype)).collect())
    })?;
    Ok(known)
}

/// The fields of the array object.
fn fields<'a>(array: &'a Bound<'_, PyUntypedArray>) -> &'a PyArrayObject_fields {
    // SAFETY: it is an ndarray, the GIL is held, and the reference does not outlive the borrow.
    unsafe { &(*array.as_array_ptr()).fields }
}

/// Shape or strides of the array.
fn numbers<'a>(first: *const isize, axes: i32, _array: &'a Bound<'_, PyUntypedArray>) -> &'a [isize] {
    if axes == 0 {
        return &[];
    }
    // SAFETY: NumPy keeps `axes` numbers there as long as the array is as it is; the GIL is held.
    unsafe { std::slice::from_raw_parts(first, axes as usize) }
}

fn dtype_of(owner: &str, name: Name<'_>, array: &Bound<'_, PyUntypedArray>) -> PyResult<DType> {
    let descr = fields(array).descr as usize;
    let usual = usual_descrs(array.py())?;
    if let Some(&(_, dtype)) = usual.iter().find(|&&(address, _)| address == descr) {
        return Ok(dtype);
    }
    let dtype = array.dtype();
    for &(address, known) in usual {
        // SAFETY: `usual_descrs` keeps these objects alive; they are dtypes.
        let descr =
            unsafe { Bound::from_borrowed_ptr(array.py(), address as *mut _).cast_into_unchecked::<PyArrayDescr>() };
        if dtype.is_equiv_to(&descr) {
            return Ok(known);
        }
    }
    let rule = "must be float32, float64, bfloat16 or float16 in native byte order";
    Err(type_error(owner, format_args!("{} {rule}, got {}", name(), dtype.repr()?)))
}

/// A masked array is an ndarray by type, but its mask would be ignored.
fn refuse_masked(owner: &str, name: Name<'_>, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let masked = object.py().import("numpy.ma")?.getattr("MaskedArray")?;
    if object.is_instance(&masked)? {
        let rule = "must be a plain NumPy array, got a masked array, whose mask would be ignored";
        return Err(type_error(owner, format_args!("{} {rule}", name())));
    }
    Ok(())
}

impl Taken {
    /// Takes an ndarray of a dtype that the core knows.
    pub(super) fn new(owner: &str, name: Name<'_>, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(array) = object.cast::<PyUntypedArray>() else {
            let hint = "(stepsmith.asarray makes one of a PyTorch CPU tensor without a copy)";
            let kind = object.get_type().fully_qualified_name()?;
            return Err(type_error(owner, format_args!("{} must be a NumPy array {hint}, got {kind}", name())));
        };
        if !object.is_exact_instance_of::<PyUntypedArray>() {
            refuse_masked(owner, name, object)?;
        }
        let dtype = dtype_of(owner, name, array)?;
        let found = fields(array);
        let (shape, strides) = (numbers(found.dimensions, found.nd, array), numbers(found.strides, found.nd, array));
        Ok(Self {
            object: object.clone().unbind(),
            dtype,
            data: found.data as usize,
            descr: found.descr as usize,
            flags: found.flags,
            numbers: shape.iter().chain(strides).copied().collect(),
        })
    }

    /// The same for a gradient of one step, which may be a NumPy scalar: what reductions to 0-d return.
    pub(super) fn new_gradient(owner: &str, name: Name<'_>, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyUntypedArray>() {
            return Self::new(owner, name, object);
        }
        let numpy = object.py().import("numpy")?;
        if object.is_instance(&numpy.getattr("generic")?)? {
            return Self::new(owner, name, &numpy.call_method1("asarray", (object,))?);
        }
        Self::new(owner, name, object)
    }

    /// The same, for an array that will be written.
    pub(super) fn new_writable(owner: &str, name: Name<'_>, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let taken = Self::new(owner, name, object)?;
        taken.check_writable(owner, name)?;
        Ok(taken)
    }

    pub(super) fn check_writable(&self, owner: &str, name: Name<'_>) -> PyResult<()> {
        if self.flags & NPY_ARRAY_WRITEABLE == 0 {
            return Err(value_error(owner, format_args!("{} must be writable, got a read-only array", name())));
        }
        Ok(())
    }

    fn axes(&self) -> usize {
        self.numbers.len() / 2
    }

    pub(super) fn shape(&self) -> &[isize] {
        &self.numbers[..self.axes()]
    }

    /// The same without signs.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.shape().iter().map(|&n| n as usize).collect()
    }

    /// The array's shape as Python prints it.
    pub(super) fn shape_text(&self) -> String {
        match self.shape() {
            [n] => format!("({n},)"),
            shape => format!("({})", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shape().iter().product::<isize>() as usize
    }

    pub(super) fn array(&self) -> Array {
        let layout = Layout {
            address: self.data,
            item: self.dtype.size(),
            shape: self.lengths().into(),
            strides: self.numbers[self.axes()..].into(),
        };
        Array { layout, dtype: self.dtype }
    }

    pub(super) fn gradient(&self) -> Gradient {
        let plain = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
        if self.flags & plain == plain {
            Gradient::Plain { address: self.data, dtype: self.dtype }
        } else {
            Gradient::Any(self.array())
        }
    }

    /// Is the array as it was taken?
    #[inline]
    fn is_unchanged(&self, array: &Bound<'_, PyUntypedArray>) -> bool {
        let found = fields(array);
        let same = found.data as usize == self.data
            && found.descr as usize == self.descr
            && found.flags == self.flags
            && found.nd as usize == self.axes();
        let now = numbers(found.dimensions, found.nd, array).iter().chain(numbers(found.strides, found.nd, array));
        same && now.eq(&self.numbers)
    }

    /// Fails if the array is no longer as it was taken.
    #[inline]
    pub(super) fn check(&self, py: Python<'_>, owner: &str, name: impl Fn() -> String) -> PyResult<()> {
        // SAFETY: `new` saw that it is an ndarray, and an object's type does not become another.
        let array = unsafe { self.object.bind(py).cast_unchecked::<PyUntypedArray>() };
        if self.is_unchanged(array) {
            return Ok(());
        }
        let (name, what) = (name(), self.change(fields(array)));
        Err(value_error(owner, format_args!("{name} must stay as it was bound, got another {what}")))
    }

    /// What of the array is no longer as it was taken.
    fn change(&self, found: &PyArrayObject_fields) -> &'static str {
        match () {
            () if found.descr as usize != self.descr => "dtype",
            () if found.nd as usize != self.axes() => "shape",
            () if found.data as usize != self.data => "data pointer",
            () if found.flags != self.flags => "flags",
            () => "shape or strides",
        }
    }
}

/// An array to read; `is_rewritten` if the kernel writes the same array.
pub(super) fn input(array: &Array, is_rewritten: bool) -> Input {
    // SAFETY: whoever holds this holds what was taken too, which keeps the array alive; the binding saw that nothing which is
    // written meets it but an output of the same layout. While a kernel runs without the GIL its arrays are the kernel's alone:
    // that is the caller's part, as in NumPy.
    unsafe { Input::new(array, is_rewritten) }
}

/// An array to write.
pub(super) fn output(array: &Array) -> Output {
    // SAFETY: as above; the binding saw that it repeats no element and that outputs do not meet.
    unsafe { Output::new(array) }
}

/// Where an array without axes to spare lies, which must be writable and without gaps.
pub(super) fn layout_of<T: Element>(owner: &str, name: &str, array: &Bound<'_, PyArray1<T>>) -> PyResult<Layout> {
    let untyped = array.as_untyped();
    for (flag, rule, got) in [
        (NPY_ARRAY_WRITEABLE, "writable", "a read-only array"),
        (NPY_ARRAY_C_CONTIGUOUS, "C-contiguous", "a strided array"),
        (NPY_ARRAY_ALIGNED, "aligned to its elements", "one that begins inside an element"),
    ] {
        if fields(untyped).flags & flag == 0 {
            return Err(value_error(owner, format_args!("{name} must be {rule}, got {got}")));
        }
    }
    let (item, len) = (size_of::<T>(), untyped.len());
    Ok(Layout {
        address: fields(untyped).data as usize,
        item,
        shape: [len][..].into(),
        strides: [item as isize][..].into(),
    })
}

/// Where the elements of an array of bytes lie.
pub(super) fn byte_layout(object: &Bound<'_, PyAny>) -> PyResult<Layout> {
    let array = object.cast::<PyArrayDyn<u8>>()?.as_untyped();
    let found = fields(array);
    let lengths = numbers(found.dimensions, found.nd, array).iter().map(|&n| n as usize);
    Ok(Layout {
        address: found.data as usize,
        item: 1,
        shape: lengths.collect(),
        strides: numbers(found.strides, found.nd, array).iter().copied().collect(),
    })
}

/// An array of bytes to read.
pub(super) fn bytes(layout: &Layout) -> Bytes {
    // SAFETY: as `input`; what is written in its place is written after it was read.
    unsafe { Bytes::new(layout) }
}

/// An array of bytes to write.
pub(super) fn bytes_mut(layout: &Layout) -> BytesMut {
    // SAFETY: as `output`.
    unsafe { BytesMut::new(layout) }
}

/// An array of float64 that nobody else knows yet.
pub(super) struct Fresh<'py>(Bound<'py, PyArray1<f64>>);

impl<'py> Fresh<'py> {
    pub(super) fn zeros(py: Python<'py>, len: usize) -> Self {
        Self(PyArray1::zeros(py, len, false))
    }

    /// The same without the zeros, for one that is filled as a whole: what one thread has written another one has to fetch from
    /// its cache.
    pub(super) fn unwritten(py: Python<'py>, len: usize) -> Self {
        // SAFETY: any bits are a float64, and `into_array` is called when all were written.
        Self(unsafe { PyArray1::new(py, len, false) })
    }

    /// To be filled.
    pub(super) fn numbers(&mut self) -> PyResult<&mut [f64]> {
        // SAFETY: `zeros` made the array, and nothing else holds it before `into_array`.
        Ok(unsafe { self.0.as_slice_mut() }?)
    }

    pub(super) fn into_array(self) -> Bound<'py, PyArray1<f64>> {
        self.0
    }
}

/// Rows over arrays that were taken, whose tensors were checked for shared elements if anything is written; with
/// `zeroing_grads` the gradients too.
pub(super) fn rows(rows: Vec<Row>, zeroing_grads: bool, mapping: Option<(usize, usize)>) -> Rows {
    // SAFETY: whoever holds these rows holds what was taken too, which keeps the arrays alive, and compares it before each
    // use. While a step runs without the GIL its arrays are the step's alone: that is the caller's part, as in NumPy.
    let rows = unsafe { if zeroing_grads { Rows::new(rows).zeroing_grads() } else { Rows::new(rows) } };
    match mapping {
        // SAFETY: the optimizer made the file and mapped it, and its state arrays keep the mapping alive.
        Some((first, len)) => rows.in_mapping(unsafe { Mapping::new(first..first + len) }),
        None => rows,
    }
}
