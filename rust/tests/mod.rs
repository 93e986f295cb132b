//! Tests of more than one module. They stand here and not beside the library, which would have to be built once more for them.

mod allocations;
mod layouts;
