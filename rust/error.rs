//! Everything that can be wrong with a request, each said once.

use std::fmt;

/// A cause. The binding puts the owner's name in front (`AdamW: ...`) and picks the exception.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// `STEPSMITH_ISA` names no level, or one that this CPU lacks.
    Isa {
        /// What was asked for.
        wish: String,
        /// What there is.
        available: Vec<&'static str>,
    },
    /// `STEPSMITH_NUM_THREADS` is no positive number.
    NumThreads(String),
    /// No reduction has that name.
    UnknownReduction(String),
    /// An array that must be there is not.
    Missing(&'static str),
    /// No norm divides by that.
    UnknownDivisor(String),
    /// No activation has that name.
    UnknownActivation(String),
    /// No codec has that name.
    UnknownCodec(String),
    /// Bytes do not begin where their elements may.
    Misaligned(&'static str),
    /// An element that is to be quantized is NaN.
    Nan {
        /// Its index in C order.
        index: usize,
    },
    /// An activation that is to be quantized is NaN or infinite.
    NotFinite {
        /// Its index in C order.
        index: usize,
    },
    /// No rule has that name.
    UnknownRule(String),
    /// An argument's length is not what another argument implies.
    Length {
        /// The argument.
        what: &'static str,
        /// How many there must be.
        want: usize,
        /// How many there are.
        got: usize,
    },
    /// A label is no class.
    Label {
        /// The label.
        value: i128,
        /// Its index in C order.
        index: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// An element belongs to two arrays that are written, or to one that is written and one that is read.
    Overlap {
        /// One array.
        first: String,
        /// The other.
        second: String,
    },
    /// A gradient shares an element with an array that is written.
    GradOverlap {
        /// Index of the gradient's tensor.
        tensor: usize,
        /// The array that is written.
        other: String,
    },
    /// An element occurs twice in an array that is written.
    SelfOverlap(String),
    /// The sum of squares of all gradients is not finite though each element is.
    NormOverflow(f64),
    /// A gradient element is NaN or infinite.
    NonFinite {
        /// Index of the tensor.
        tensor: usize,
        /// Index of the element in C order.
        element: usize,
        /// What it is, in the compute type.
        value: f64,
        /// What it is divided by.
        grad_scale: f64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isa { wish, available } => {
                write!(f, "STEPSMITH_ISA must name a level of this CPU ({}), got '{wish}'", available.join(", "))
            }
            Self::Missing(what) => write!(f, "{what} must be given, got None"),
            Self::UnknownDivisor(name) => {
                write!(f, "divisor must be one of deviation, root_mean_square, length, got '{name}'")
            }
            Self::UnknownActivation(name) => write!(f, "kind must be the name of an activation, got '{name}'"),
            Self::UnknownCodec(name) => write!(f, "scheme must be the name of a codec, got '{name}'"),
            Self::Misaligned(what) => {
                write!(f, "{what} must be aligned to their elements, got bytes that begin inside one")
            }
            Self::NotFinite { index } => write!(f, "x must be finite to be quantized, got NaN or infinity at {index}"),
            Self::Nan { index } => {
                write!(f, "x must not have NaN (nan='zero' takes it for 0), got one at index {index}")
            }
            Self::UnknownRule(name) => write!(f, "rule must be a name of the registry, got '{name}'"),
            Self::NumThreads(value) => write!(f, "STEPSMITH_NUM_THREADS must be a positive integer, got '{value}'"),
            Self::UnknownReduction(name) => {
                write!(f, "kind must be one of sum, sum_abs, sum_squares, max_abs, got '{name}'")
            }
            Self::Length { what, want, got } => write!(f, "{what} must have {want} entries, got {got}"),
            Self::Label { value, index, classes } => {
                write!(f, "labels must be in [0, {classes}), got {value} at index {index}")
            }
            Self::Overlap { first, second } => {
                write!(f, "{first} and {second} must not share elements, got arrays that overlap in memory")
            }
            Self::GradOverlap { tensor, other } => {
                write!(f, "gradient {tensor} and {other} must not share elements, got arrays that overlap in memory")
            }
            Self::SelfOverlap(name) => {
                write!(f, "{name} must not repeat elements, got an array in which indices share memory")
            }
            Self::NormOverflow(norm) => write!(f, "the norm of all gradients must be finite, got {norm}"),
            Self::NonFinite { tensor, element, value, grad_scale } => {
                write!(f, "gradient {tensor} / {grad_scale} must be finite, got {value:?} at element {element}")
            }
        }
    }
}

impl std::error::Error for Error {}
