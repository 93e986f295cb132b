//! Steps and reductions at each CPU level, in bytes per second: `cargo bench --no-default-features`.
//!
//! Ids are `<op>/<dtype>/<n>/<isa>`; the dtype `bfloat16-state` means float32 parameters and gradients over bfloat16 state.
//! Every result is compared, bit for bit, with a plain loop before it is timed.
#![allow(unsafe_code)]

use std::{error::Error, hint::black_box, time::Duration};

use criterion::{Criterion, Throughput};
use stepsmith::{
    array::Array,
    dtype::DType,
    layout::Layout,
    optim::{
        Cohorts, Gradients, Options, Reduction, internal,
        rule::{self, Entry},
        step,
        table::Rows,
        tensors::{Gradient, Tensor, Tensors},
    },
    reduce::Term,
    simd::Isa,
};

/// Resident in the second-level cache, and in memory.
const SIZES: [usize; 2] = [64 << 10, 4 << 20];
/// Name, dtype of parameters and gradients, dtype of the state.
const STORAGES: [(&str, DType, DType); 3] = [
    ("float32", DType::F32, DType::F32),
    ("bfloat16", DType::Bf16, DType::Bf16),
    ("bfloat16-state", DType::F32, DType::Bf16),
];
/// State arrays that an operation has at most.
const SLOTS: usize = 2;

type State = [f32; SLOTS];
type Update = fn(f32, f32, State) -> (f32, State);

const LR: f64 = 0.125;
const MOMENTUM: f64 = 0.875;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;
const DECAY: f64 = 0.99;

/// An operation: its rule, the state arrays it has, and the loop that says what must come out.
struct Op {
    name: &'static str,
    rule: &'static Entry,
    slots: usize,
    expected: Update,
}

const SWEEP: Op =
    Op { name: "sweep", rule: &internal::SWEEP, slots: 2, expected: |p, g, [a, b]| (p + g, [a + g, b + g]) };

fn ops() -> Result<[Op; 3], stepsmith::error::Error> {
    let adamw = Op { name: "adamw", rule: rule::find("adamw")?, slots: 2, expected: adamw };
    let sgd = Op { name: "sgd", rule: rule::find("sgd")?, slots: 1, expected: sgd };
    Ok([adamw, sgd, SWEEP])
}

/// The value of a rule's scalar; those not named here are 0.
fn scalar(name: &str) -> f64 {
    match name {
        "lr" | "step_size" => LR,
        "momentum" => MOMENTUM,
        "one_minus_dampening" | "inv_sqrt_bias_correction2" => 1.0,
        "decay" => DECAY,
        "one_minus_beta1" => 1.0 - BETA1,
        "beta2" => BETA2,
        "one_minus_beta2" => 1.0 - BETA2,
        "eps" => EPS,
        _ => 0.0,
    }
}

fn adamw(param: f32, grad: f32, [m, v]: State) -> (f32, State) {
    let m = m + (grad - m) * (1.0 - BETA1) as f32;
    let v = v * BETA2 as f32 + grad * grad * (1.0 - BETA2) as f32;
    (param * DECAY as f32 - m * LR as f32 / (v.sqrt() + EPS as f32), [m, v])
}

fn sgd(param: f32, grad: f32, [buffer, unused]: State) -> (f32, State) {
    let buffer = buffer * MOMENTUM as f32 + grad;
    (param - buffer * LR as f32, [buffer, unused])
}

/// Elements in memory.
#[derive(Clone)]
enum Storage {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
}

impl Storage {
    fn new(dtype: DType, values: impl Iterator<Item = f32>) -> Self {
        match dtype {
            DType::Bf16 => Self::Bf16(values.map(to_bf16).collect()),
            _ => Self::F32(values.collect()),
        }
    }

    fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(x) => x[i],
            Self::Bf16(x) => f32::from_bits(u32::from(x[i]) << 16),
        }
    }

    /// `value`, rounded to this storage, has the bits of element `i`.
    fn holds(&self, i: usize, value: f32) -> bool {
        match self {
            Self::F32(x) => x[i].to_bits() == value.to_bits(),
            Self::Bf16(x) => x[i] == to_bf16(value),
        }
    }

    fn array(&mut self) -> Array {
        let (address, dtype, len) = match self {
            Self::F32(x) => (x.as_mut_ptr().expose_provenance(), DType::F32, x.len()),
            Self::Bf16(x) => (x.as_mut_ptr().expose_provenance(), DType::Bf16, x.len()),
        };
        let item = dtype.size();
        Array {
            layout: Layout { address, item, shape: [len][..].into(), strides: [item.cast_signed()][..].into() },
            dtype,
        }
    }
}

/// The nearest bfloat16 of a finite number, half to even.
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Finite numbers of both signs in ±[0.5, 1.5), the same for the same seed.
fn values(seed: u64) -> impl Iterator<Item = f32> {
    let mut x = seed;
    std::iter::repeat_with(move || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let magnitude = 0.5 + (x >> 40) as f32 / (1 << 24) as f32;
        if x >> 39 & 1 == 0 { magnitude } else { -magnitude }
    })
}

/// One tensor with its gradient and state, and the rows that point into them.
struct Problem {
    param: Storage,
    grad: Storage,
    state: Vec<Storage>,
    gradients: Gradients,
}

impl Problem {
    fn new(n: usize, slots: usize, dtype: DType, state_dtype: DType) -> Result<Self, stepsmith::error::Error> {
        let mut param = Storage::new(dtype, values(1).take(n));
        let mut grad = Storage::new(dtype, values(2).take(n));
        // A second moment is positive, and to a first moment it makes no difference.
        let state = (0..slots).map(|k| Storage::new(state_dtype, values(3 + k as u64).take(n).map(f32::abs)));
        let mut state: Vec<Storage> = state.collect();
        let arrays = state.iter_mut().map(|slot| Some(slot.array())).collect();
        let names = (0..=slots).map(|k| k.to_string()).collect();
        let tensors = Tensors::new(vec![Tensor { state: arrays, ..Tensor::alone(param.array()) }], names, false)?;
        let Array { layout, dtype } = grad.array();
        let row = tensors.row(0, &Gradient::Plain { address: layout.address, dtype })?;
        // SAFETY: the vectors live in `Self`, are never resized, and are looked at only between steps.
        let rows = unsafe { Rows::new(vec![row]) };
        Ok(Self { param, grad, state, gradients: Gradients::new(rows) })
    }

    fn step(&mut self, isa: Isa, rule: &Entry, scalars: &[f64]) -> Result<(), stepsmith::error::Error> {
        let cohorts = Cohorts { of_tensor: &[0], scalars, signs: &[1.0] };
        let options = Options::plain(1.0);
        step(isa, rule, &mut self.gradients, cohorts, options).map(|_| ())
    }

    /// Steps once and compares every element with the plain loop.
    fn check(&mut self, isa: Isa, op: &Op, scalars: &[f64]) -> Result<(), Box<dyn Error>> {
        let (param, state, n) = (self.param.clone(), self.state.clone(), self.len());
        self.step(isa, op.rule, scalars)?;
        let mut moved = 0;
        for i in 0..n {
            let mut before = State::default();
            for (value, slot) in before.iter_mut().zip(&state) {
                *value = slot.get(i);
            }
            let (want, after) = (op.expected)(param.get(i), self.grad.get(i), before);
            moved += usize::from(!param.holds(i, want));
            let same = self.state.iter().zip(after).all(|(slot, value)| slot.holds(i, value));
            if !(same && self.param.holds(i, want)) {
                return Err(format!("{} is wrong at element {i}: {}, not {want}", op.name, self.param.get(i)).into());
            }
        }
        if moved > n / 2 { Ok(()) } else { Err(format!("{} moved only {moved} of {n}", op.name).into()) }
    }

    const fn len(&self) -> usize {
        match &self.param {
            Storage::F32(x) => x.len(),
            Storage::Bf16(x) => x.len(),
        }
    }
}

/// The bytes that a step must read and write.
const fn traffic(n: usize, slots: usize, dtype: DType, state_dtype: DType) -> u64 {
    (n * (3 * dtype.size() + 2 * slots * state_dtype.size())) as u64
}

fn bench_op(criterion: &mut Criterion, op: &Op) -> Result<(), Box<dyn Error>> {
    let scalars: Vec<f64> = op.rule.scalars.iter().map(|name| scalar(name)).collect();
    let mut group = criterion.benchmark_group(op.name);
    for (name, dtype, state_dtype) in STORAGES {
        for n in SIZES {
            group.throughput(Throughput::Bytes(traffic(n, op.slots, dtype, state_dtype)));
            for isa in Isa::available() {
                let mut problem = Problem::new(n, op.slots, dtype, state_dtype)?;
                problem.check(isa, op, &scalars)?;
                let id = format!("{name}/{n}/{}", isa.name());
                group.bench_function(id, |bencher| bencher.iter(|| problem.step(isa, op.rule, &scalars)));
            }
        }
    }
    group.finish();
    Ok(())
}

/// What a reduction must give: the largest magnitude exactly, a sum up to the order of its additions.
fn check_reduction(problem: &mut Problem, isa: Isa, kind: Reduction) -> Result<(), Box<dyn Error>> {
    let grads = (0..problem.len()).map(|i| f64::from(problem.grad.get(i)));
    let (want, tolerance) = match kind {
        Reduction::MaxAbs => (grads.fold(0.0, |largest: f64, x| largest.max(x.abs())), 0.0),
        Reduction::Sum(_) => (grads.map(|x| x * x).sum(), 1e-12),
    };
    let got = problem.gradients.reduce(isa, kind);
    if (got - want).abs() <= tolerance * want {
        return Ok(());
    }
    Err(format!("{kind:?} is wrong: {got}, not {want}").into())
}

fn bench_reduction(criterion: &mut Criterion, op: &str, kind: Reduction) -> Result<(), Box<dyn Error>> {
    let mut group = criterion.benchmark_group(op);
    for (name, dtype, state_dtype) in &STORAGES[..2] {
        for n in SIZES {
            group.throughput(Throughput::Bytes((n * dtype.size()) as u64));
            for isa in Isa::available() {
                let mut problem = Problem::new(n, 0, *dtype, *state_dtype)?;
                check_reduction(&mut problem, isa, kind)?;
                let id = format!("{name}/{n}/{}", isa.name());
                group.bench_function(id, |bencher| {
                    bencher.iter(|| black_box(problem.gradients.reduce(isa, kind)));
                });
            }
        }
    }
    group.finish();
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    for op in ops()? {
        bench_op(&mut criterion, &op)?;
    }
    bench_reduction(&mut criterion, "sum_squares", Reduction::Sum(Term::Square))?;
    bench_reduction(&mut criterion, "max_abs", Reduction::MaxAbs)?;
    criterion.final_summary();
    Ok(())
}
