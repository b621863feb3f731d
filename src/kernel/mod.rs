//! The mathematics of one row, or of one tile of rows, generic over the SIMD level.
//!
//! Every file does one step on slices and returns numbers: no `Result`, no allocation, no options.
//!
//! | file | step |
//! |---|---|
//! | `isa` | which instruction set runs |
//! | `element` | the stored number (f16, bf16, f32, f64), loaded as and stored from a vector |
//! | `real` | the number computed with (f32 or f64) and its vector of 512 bits |
//! | `exp` | `exp`, written as a power of two times `1 + q` |
//! | `log` | `log1p` of a quotient, `log` and `log1p` |
//! | `pair` | numbers in two parts |
//! | `rowset` | some rows of a tile, a bit for each |
//! | `sum` | running sums of terms, compensated in f64 |
//! | `prefetch` | memory asked for before it is needed |
//! | `stream` | stores that go past the caches |
//! | `wide` | max and sum of exponentials of a long row, lanes across the classes |
//! | `narrow` | the same for a tile of short rows, lanes across the rows |
//! | `two` | log sum exp of a tile of rows of two classes |
//! | `finish` | from max and sum to log sum exp, lanes across the rows |
//! | `gap` | the sum of q (max - x), for label smoothing and class probabilities |
//! | `scan` | what a row tells besides its sum: entropy, rank, largest class |
//! | `top` | the k largest of a row's logits |
//! | `divergence` | a row or two in `f64`: softmax, divergences, moments at a temperature |
//! | `output` | `log_softmax`, `softmax` and `log_sigmoid` of a stretch of elements |
//! | `pointwise` | the losses of single elements, a block at a time |
//!
//! All vectors have the fixed width of 512 bits, whatever the registers are, and every operation is
//! written once: each level with a fused multiply-add therefore gives the same bits.

/// f(0) and f(1): the two halves of a vector of `f32` as `f64`. (The library's array functions are not inlined
/// reliably into functions that carry an instruction set; a vector that is not is slower by ten times.)
#[inline(always)]
pub(crate) fn halves<T>(f: impl Fn(usize) -> T) -> [T; 2] {
    [f(0), f(1)]
}

pub(crate) mod divergence;
pub mod element;
pub(crate) mod exp;
pub(crate) mod finish;
pub(crate) mod gap;
pub mod isa;
pub(crate) mod log;
pub(crate) mod narrow;
pub(crate) mod output;
pub(crate) mod pair;
pub(crate) mod pointwise;
pub(crate) mod prefetch;
pub(crate) mod real;
pub(crate) mod rowset;
pub(crate) mod scan;
pub(crate) mod stream;
pub(crate) mod sum;
pub(crate) mod top;
pub(crate) mod two;
pub(crate) mod wide;

/// Rows in a tile: the unit in which targets are read, losses are formed and short rows are packed.
pub(crate) const TILE: usize = 64;

/// The most classes that a row may have to be packed into a tile with its neighbours.
pub(crate) const NARROW: usize = 100;

/// Elements of a row that are treated together: 4 KiB of `f32`, which stay in the first-level cache
/// between finding their maximum and adding their exponentials.
pub(crate) const BLOCK: usize = 1024;

/// Classes that are summed as a row of their own where there are more. Where rows are few, threads share these out.
pub(crate) const SEGMENT: usize = 1 << 17;
