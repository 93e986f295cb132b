//! A step allocates nothing of the arrays' size: an allocator that counts, over contiguous, strided and misaligned rows.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout as Block, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{
    array::Array,
    dtype::DType,
    error::Error,
    layout::Layout,
    optim::{
        Cohorts, Gradients, Options, rule, step,
        table::Rows,
        tensors::{Gradient, Tensor, Tensors},
    },
    parallel,
    simd::Isa,
};

/// The system's allocator; remembers the largest request and adds all of them up.
struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    LARGEST.fetch_max(bytes, Relaxed);
    TOTAL.fetch_add(bytes, Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        count(block.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(block) }
    }

    unsafe fn alloc_zeroed(&self, block: Block) -> *mut u8 {
        count(block.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(block) }
    }

    unsafe fn realloc(&self, place: *mut u8, block: Block, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, block, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, block: Block) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, block) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SHAPE: [usize; 2] = [1001, 307];
const LEN: usize = SHAPE[0] * SHAPE[1];

/// Memory of an array, and where in it the elements lie.
struct Owned {
    bytes: Vec<u8>,
    start: usize,
    strides: [isize; 2],
}

impl Owned {
    /// Ones of float32: C order, Fortran order, every other column, or C order at odd addresses.
    fn new(kind: &str) -> Self {
        let (rows, columns) = (SHAPE[0] as isize, SHAPE[1] as isize);
        let (strides, odd) = match kind {
            "contiguous" => ([4 * columns, 4], 0),
            "fortran" => ([4, 4 * rows], 0),
            "strided" => ([8 * columns, 8], 0),
            _ => ([4 * columns, 4], 1),
        };
        let mut bytes = vec![0; 8 * LEN + 16];
        let start = bytes.as_ptr().align_offset(4) + odd;
        for i in (0..2 * LEN).map(|i| start + 4 * i) {
            bytes[i..i + 4].copy_from_slice(&1_f32.to_ne_bytes());
        }
        Self { bytes, start, strides }
    }

    fn array(&mut self) -> Array {
        let address = self.bytes.as_mut_ptr().expose_provenance() + self.start;
        let layout = Layout { address, item: 4, shape: SHAPE[..].into(), strides: self.strides[..].into() };
        Array { layout, dtype: DType::F32 }
    }

    fn value(&self, row: usize, column: usize) -> f32 {
        let at = self.start + row * self.strides[0] as usize + column * self.strides[1] as usize;
        f32::from_ne_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }
}

/// lr 1/8, momentum 1/2: `Sgd::SCALARS` in order.
const SCALARS: [f64; 6] = [0.125, 0.0, 0.5, 1.0, 0.0, 1.0];

/// Bytes of the largest allocation and of all of them, in three steps after the first.
fn measure(kinds: [&str; 3], max_norm: Option<f64>, check_finite: bool) -> Result<(usize, usize), Error> {
    let mut owned = kinds.map(Owned::new);
    let [param, grad, momentum] = &mut owned;
    let (param, grad, momentum) = (param.array(), grad.array(), momentum.array());
    let tensors = vec![Tensor { state: vec![Some(momentum)], ..Tensor::alone(param) }];
    let tensors = Tensors::new(tensors, vec!["param".into(), "momentum".into()], false)?;
    let row = tensors.row(0, &Gradient::Any(grad))?;
    // SAFETY: `owned` outlives the rows, nobody else uses it meanwhile, and `Tensors` saw that nothing is shared.
    let mut gradients = Gradients::new(unsafe { Rows::new(vec![row]) });
    let isa = Isa::choose(None)?;
    let cohorts = Cohorts { of_tensor: &[0], scalars: &SCALARS, signs: &[1.0] };
    let options = Options { check_finite, max_norm, ..Options::plain(1.0) };
    let rule = rule::find("sgd")?;
    let mut run = || step(isa, rule, &mut gradients, cohorts, options);
    let norm = run()?;
    LARGEST.store(0, Relaxed);
    TOTAL.store(0, Relaxed);
    for _ in 0..3 {
        assert_eq!(run()?, norm);
    }
    let counted = (LARGEST.load(Relaxed), TOTAL.load(Relaxed));
    assert_eq!(norm.is_some(), max_norm.is_some());
    // Each step, its flag saying that it is the first, moves by lr times the gradient.
    for (row, column) in [(0, 0), (1000, 306), (17, 5)] {
        let value = owned[0].value(row, column);
        assert!((value - 0.5).abs() < 1e-6, "{kinds:?}: {value}");
    }
    Ok(counted)
}

#[test]
#[ignore = "counts what other tests allocate: run it alone, with -- --ignored"]
fn steps_allocate_nothing_of_the_arrays_size() {
    let before = TOTAL.load(Relaxed);
    drop(vec![0_u8; 4 * LEN]);
    assert!(TOTAL.load(Relaxed) - before >= 4 * LEN, "the allocator counts");
    parallel::set_threads(2);
    let kinds = ["contiguous", "fortran", "strided", "misaligned"];
    for param in kinds {
        for grad in kinds {
            for (max_norm, check_finite) in [(None, false), (None, true), (Some(1e9), true)] {
                let (largest, total) = measure([param, grad, param], max_norm, check_finite).unwrap();
                assert!(largest < LEN / 100 && total < LEN / 20, "{param} {grad} {max_norm:?}: {largest}, {total}");
            }
        }
    }
}
