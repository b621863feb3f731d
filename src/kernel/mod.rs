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
//! | `roots` | powers of two at multiples of an eighth, by a table |
//! | `log` | `log1p` of a quotient, `log` and `log1p` |
//! | `double_double` | double-double arithmetic: a number as a high and a low part |
//! | `column` | a number for each row of a tile, aligned to cache lines |
//! | `rowset` | a set of a tile's rows: a bit for each active row |
//! | `sum` | running sums of terms, compensated in f64 |
//! | `prefetch` | prefetching of memory |
//! | `stream` | stores that bypass the caches |
//! | `long_row` | maximum and sum of exponentials of a long row, lanes across the classes |
//! | `packed_row` | sum of exponentials of a tile of long rows of one block, packed, in the order of `long_row` |
//! | `short_row` | maximum and sum of exponentials of a tile of short rows, lanes across the rows |
//! | `binary` | a tile of rows of two classes: log sum exp, softmax, gradient, Hessian |
//! | `log_sum_exp` | from maximum and sum to log sum exp, lanes across the rows |
//! | `max_minus_x` | the sum of q (max - x), for label smoothing and class probabilities |
//! | `stats` | the online statistics of a row besides its sum: entropy, rank, largest class |
//! | `top` | the k largest of a row's logits |
//! | `divergence` | a row or two in `f64`: softmax, divergences, moments at a temperature |
//! | `output` | `log_softmax`, `softmax`, `log_sigmoid` and gradients, of a block or a packed tile |
//! | `pointwise` | the losses of single elements, a block at a time |
//! | `signed_sum` | the sum of b exp(x), with b of any sign, and its logarithm |
//!
//! # The pieces
//!
//! | piece | is | decided by |
//! |---|---|---|
//! | row | the logits of one target: short up to `SHORT_ROW` classes, else long | the class axis |
//! | tile | up to `TILE` consecutive rows: the unit of targets, losses and packed rows | the rows' order |
//! | block | up to `BLOCK` classes of a long row, or elements: it fits the first-level cache | the number of classes |
//! | segment | up to `SEGMENT` classes, summed as one row; threads take segments of few rows | the number of classes |
//! | chunk | the rows of one task of a thread (`parallel`): about 65 536 elements | the shape |
//! | run | consecutive rows at one distance in memory (`array::rows`) | the strides |
//!
//! What a piece is depends on shapes alone, never on the number of threads, the instruction set or the layout: each sum
//! has one order, and so one result.
//!
//! All vectors have the fixed width of 512 bits, whatever the registers are, and every operation is
//! written once: each level with a fused multiply-add therefore gives the same bits.

/// f(0) and f(1): the two vectors of `f64` that a vector of `f32` widens to. (The library's array functions are not
/// inlined reliably into functions that carry an instruction set; a vector that is not is slower by ten times.)
#[inline(always)]
pub(crate) fn f64_vectors<T>(f: impl Fn(usize) -> T) -> [T; 2] {
    [f(0), f(1)]
}

pub(crate) mod binary;
pub(crate) mod column;
pub(crate) mod divergence;
pub(crate) mod double_double;
pub mod element;
pub(crate) mod exp;
pub mod isa;
pub(crate) mod log;
pub(crate) mod log_sum_exp;
pub(crate) mod long_row;
pub(crate) mod max_minus_x;
pub(crate) mod output;
pub(crate) mod packed_row;
pub(crate) mod pointwise;
pub(crate) mod prefetch;
pub(crate) mod real;
pub(crate) mod roots;
pub(crate) mod rowset;
pub(crate) mod short_row;
pub(crate) mod signed_sum;
pub(crate) mod stats;
pub(crate) mod stream;
pub(crate) mod sum;
pub(crate) mod teacher;
pub(crate) mod top;

/// Rows in a tile: the unit in which targets are read, losses are formed and short rows are packed.
pub(crate) const TILE: usize = 64;

/// The most classes that a row may have to be packed into a tile with its neighbours.
pub(crate) const SHORT_ROW: usize = 100;

/// Elements of a block, 4 KiB of `f32`: they stay in the first-level cache
/// between finding their maximum and adding their exponentials.
pub(crate) const BLOCK: usize = 1024;

/// Classes of a segment, which is summed as a row of its own. Where rows are few, threads take segments.
pub(crate) const SEGMENT: usize = 1 << 17;
