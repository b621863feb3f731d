//! Cross-entropy, negative log-likelihood and the functions around them, for [`ndarray`] arrays on the CPU: correct to
//! the last digits, one pass over the logits, vectors of every instruction set, all cores, and the same bits on any
//! number of threads.
//!
//! Functions take references to arrays of any dimension and layout that hold [`f16`](half::f16), [`bf16`](half::bf16),
//! `f32` or `f64`: `Array`, `ArrayView` and `ArcArray` all give them. Targets are class indices of any integer type,
//! `usize` too. Losses are in nats. Everything is checked before anything is written; what is wrong with a call is an
//! [`Error`] that names the argument, what it was, and what was expected.
//!
//! # A loss
//!
//! Options are set with builder methods; a [`Total`] is reduced to a mean or a sum.
//!
//! ```
//! use crossent::ndarray::array;
//! use crossent::{Call, ClassLoss, CrossEntropy, Reduction};
//!
//! let logits = array![[2.0_f32, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 1.0]];
//! let target = array![0_i64, 1, -100]; // -100: leave this row out
//! let loss = CrossEntropy::new();
//! let mean = loss.total(&logits, &target, &Call::new())?.reduce(Reduction::Mean);
//! assert_eq!(format!("{mean:.6}"), "0.148148");
//!
//! let smoothed = loss.label_smoothing(0.1).weight(&[1.0, 2.0, 1.0]);
//! let losses = smoothed.each_row(&logits, &target, &Call::new())?;
//! let rounded = losses.map(|loss| format!("{loss:.4}"));
//! assert_eq!(rounded, array!["0.4994", "0.3730", "0.0000"]);
//! # Ok::<(), crossent::Error>(())
//! ```
//!
//! # Its gradient
//!
//! The gradient is computed in the same pass, times a factor of the caller's.
//! [`total_and_gradient_in_place`](ClassLoss::total_and_gradient_in_place) writes it over the logits.
//!
//! ```
//! use crossent::ndarray::{Array2, array};
//! use crossent::{Call, ClassLoss, CrossEntropy, Reduction, softmax};
//!
//! let logits = array![[2.0_f64, -1.0, 0.5], [0.0, 3.0, -2.0]];
//! let target = array![0_usize, 1];
//! let mut gradient = Array2::zeros(logits.raw_dim());
//! let (loss, call, mean) = (CrossEntropy::new(), Call::new(), Reduction::Mean);
//! loss.total_and_gradient(&logits, &target, &call, mean, 1.0, &mut gradient)?;
//! // (softmax(x) - one-hot target) / rows
//! let p = softmax(&logits, 1)?;
//! assert!((gradient[[0, 1]] - p[[0, 1]] / 2.0).abs() < 1e-16);
//! assert!((gradient[[0, 0]] - (p[[0, 0]] - 1.0) / 2.0).abs() < 1e-16);
//! # Ok::<(), crossent::Error>(())
//! ```
//!
//! # Gradient boosting
//!
//! [`Boosting`] writes the gradient and the diagonal of the Hessian of scores that trees add to, as the objectives of
//! `LightGBM` and `XGBoost` do.
//!
//! # Scoring a model
//!
//! [`score`] gives columns: loss, entropy, prediction, rank. [`score_sums`] adds them up without rounding: batches
//! merge in any order to the bits of the whole. [`compare_sums`] does so for two models, and [`temperature_sums`]
//! calibrates one.
//!
//! ```
//! use crossent::ndarray::{Axis, array};
//! use crossent::{Call, Score, ScoreSums, score, score_sums};
//!
//! let logits = array![
//!     [2.0_f32, -1.0, 0.5],
//!     [0.0, 3.0, -2.0],
//!     [0.3, 0.1, 0.2],
//!     [1.0, 0.0, 1.0],
//! ];
//! let target = array![0_u16, 1, 2, 1];
//! let options = Score::new().top_k(&[1, 2]);
//! let mut all = ScoreSums::default();
//! let batches = logits.axis_chunks_iter(Axis(0), 2);
//! for (logits, target) in batches.zip(target.axis_chunks_iter(Axis(0), 2)) {
//!     all.merge(&score_sums(&logits, &target, &options, &Call::new())?);
//! }
//! assert_eq!(all, score_sums(&logits, &target, &options, &Call::new())?);
//! assert_eq!((all.count, all.accuracy()), (4, 0.5));
//! assert_eq!(all.top_k_accuracy()[1], (2, 0.75));
//! assert_eq!(format!("{:.4}", all.mean()), "0.8151");
//! assert_eq!(format!("{:.4}", all.standard_error()), "0.4169");
//! assert_eq!(format!("{:.4}", all.perplexity()), "2.2593");
//!
//! let scores = score(&logits, &target, &options, &Call::new())?;
//! assert_eq!(scores.rank, array![1, 1, 2, 3]);
//! # Ok::<(), crossent::Error>(())
//! ```
//!
//! # Sums without rounding
//!
//! ```
//! use crossent::ExactSum;
//!
//! let mut sum: ExactSum = [1e100, 1.0, -1e100].into_iter().collect();
//! let other: ExactSum = [0.5, 0.25].into_iter().collect();
//! sum.merge(&other);
//! assert_eq!((sum.to_f64(), sum.mean(5)), (1.75, 0.35));
//! ```
//!
//! # Half precision
//!
//! Numbers of 16 bits are read as they are and widened in registers. Losses are summed in `f64`; rows of functions are
//! rounded once, to the type of the input.
//!
//! ```
//! use crossent::half::bf16;
//! use crossent::ndarray::array;
//! use crossent::{Call, ClassLoss, CrossEntropy, log_softmax};
//!
//! let logits = array![[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]].map(|x| bf16::from_f64(*x));
//! let total = CrossEntropy::new().total(&logits, &array![0_i8, 1], &Call::new())?;
//! assert_eq!(format!("{:.6}", total.sum), "0.296297");
//! assert_eq!(log_softmax(&logits, 1)?[[0, 0]], bf16::from_f64(-0.2413));
//! # Ok::<(), crossent::Error>(())
//! ```
//!
//! # Threads
//!
//! Calls use all cores, or the number that [`set_num_threads`], [`Context::threads`] or the variable
//! `CROSSENT_NUM_THREADS` sets. No result depends on it, nor does a row's result depend on other rows. An [`Interrupt`]
//! stops a call.
//!
//! # Flags for the compiler
//!
//! The kernels are compiled with the crate that calls them, under its profile. They are fast only if they are inlined:
//! a crate under development needs at least `opt-level = 1`.
//!
//! Where kernels keep vectors on the stack, these have to lie within cache lines, and LLVM only sees to that if a frame
//! pointer is set aside: AVX2 kernels take up to half as long again without it. Cargo does not pass a dependency's
//! flags on; put this into the `.cargo/config.toml` of the workspace (a variable `RUSTFLAGS` takes its place):
//!
//! ```toml
//! [build]
//! rustflags = ["-C", "force-frame-pointers=yes"]
//! ```
//!
//! No bit of a result depends on it.
//!
//! # The way of a row
//!
//! One step a file:
//!
//! ```text
//! view of an array
//!   loss, scoring, function   the public functions: check the arguments once, build the work, run it
//!   tile                      64 rows: located, packed or gathered for their kernel, summed, written
//!   targets                   class indices or probabilities that fit the rows; which rows are active
//!   sum                       losses to a sum or a mean in a fixed order; sums without rounding
//!   array                     arrays of any dtype and layout as rows, and as blocks of elements
//!   parallel                  rows in chunks, chunks on threads
//!   kernel                    one row or tile to numbers, generic over the instruction set
//! ```

// What tests call is compiled here, once: see tests/bits.rs.
#[cfg(all(crossent_checkout, debug_assertions, not(test), not(feature = "python")))]
#[doc(hidden)]
#[path = "../tests/bits.rs"]
pub mod bits;
#[cfg(all(crossent_checkout, debug_assertions, not(test), not(feature = "python")))]
extern crate self as crossent;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod array;
mod error;
mod function;
mod kernel;
mod loss;
mod options;
mod parallel;
mod scoring;
mod sum;
mod targets;
mod tile;

#[cfg(feature = "python")]
mod python;

pub use array::any::{FloatsMut, Numbers};
pub use error::{Error, Held, HeldNumbers, TargetsFound};
pub use function::signed::{signed_logsumexp, signed_logsumexp_into};
pub use function::{
    log_sigmoid, log_sigmoid_in_place, log_sigmoid_into, log_softmax, log_softmax_in_place, log_softmax_into,
    logsumexp, logsumexp_into, softmax, softmax_in_place, softmax_into,
};
pub use kernel::element::Element;
pub use kernel::isa::{available_isas, selected_isa};
pub use loss::boosting::{Boosting, BoostingHessian};
pub use loss::class_loss::ClassLoss;
pub use loss::cross_entropy::CrossEntropy;
pub use loss::misuse::{FirstValues, LikelyMisuse, LikelyValues};
pub use loss::nll_loss::NllLoss;
pub use loss::pointwise::{ElementLoss, Elementwise};
pub use loss::shard::{ShardSums, shard_gradient_into, shard_sums};
pub use loss::target_function::TargetFunction;
pub use loss::target_loss::TargetLoss;
pub use loss::top_k::{TopKTeacher, kl_div_topk, kl_div_topk_and_gradient};
pub use options::Reduction;
pub use parallel::{Context, Interrupt, MAX_THREADS, num_threads, set_num_threads};
pub use scoring::columns::{Columns, Score, Scores};
pub use scoring::compare::{ComparisonRows, ComparisonSums, TargetSums, compare_sums};
pub use scoring::log_loss::{LogLoss, log_loss};
pub use scoring::score::{Bin, Group, ScoreSums, score, score_into, score_sums, score_with_sums};
pub use scoring::temperature::{TemperatureSums, temperature_sums};
pub use scoring::values::{
    Improper, active_rows, check_targets, likely_misuse, likely_values, log_of_probabilities,
};
pub use sum::exact::ExactSum;
pub use sum::reduce::Total;
pub use targets::{Call, Mask, Target, targets_found};
pub use {half, ndarray};
