//! Cross-entropy, negative log-likelihood and the functions around them, over [`ndarray`] views.
//!
//! The path of a row of logits through the crate, one step a file:
//!
//! ```text
//! view of an array
//!   loss, scoring, function   the public functions: check the arguments once, build the work, hand it out
//!   tile                      64 rows: located, packed or gathered for their kernel, summed, written
//!   targets                   class indices or probabilities that fit the rows; which rows are active
//!   sum                       losses to a sum or a mean in a fixed order; sums without rounding
//!   array                     arrays of any dtype and layout as rows, and as blocks of elements
//!   parallel                  rows in chunks, chunks on threads
//!   kernel                    one row or tile to numbers, generic over the instruction set
//! ```
//!
//! ```
//! use crossent::{Call, ClassLoss, CrossEntropy, Reduction, Target};
//! use ndarray::array;
//!
//! let logits = array![[0.0500_f32, -0.6461, 0.9130, -0.0553], [-0.3201, 1.5033, 0.2070, 1.8456]].into_dyn();
//! let classes = array![0_i64, 0].into_dyn();
//! let loss = CrossEntropy::default().total(&logits.view(), &Target::from(classes.view()), &Call::default())?;
//! assert_eq!(format!("{:.4}", loss.reduce(Reduction::Mean)), "2.2152");
//! # Ok::<(), crossent::Error>(())
//! ```

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
pub use function::{
    log_sigmoid, log_sigmoid_in_place, log_sigmoid_into, log_softmax, log_softmax_in_place, log_softmax_into,
    logsumexp, logsumexp_into, softmax, softmax_in_place, softmax_into,
};
pub use kernel::element::Element;
pub use kernel::isa::{available_isas, selected_isa};
pub use loss::class_loss::ClassLoss;
pub use loss::cross_entropy::CrossEntropy;
pub use loss::misuse::LikelyMisuse;
pub use loss::nll_loss::NllLoss;
pub use loss::pointwise::{ElementLoss, Elementwise};
pub use options::Reduction;
pub use parallel::{Context, Interrupt, MAX_THREADS, num_threads, set_num_threads};
pub use scoring::columns::{Columns, Score, Scores};
pub use scoring::compare::{ComparisonRows, ComparisonSums, TargetSums, compare_sums};
pub use scoring::log_loss::{LogLoss, log_loss};
pub use scoring::score::{Bin, Group, ScoreSums, score, score_into, score_sums, score_with_sums};
pub use scoring::temperature::{TemperatureSums, temperature_sums};
pub use scoring::values::{Improper, check_targets, likely_misuse, log_of_probabilities};
pub use sum::exact::ExactSum;
pub use sum::reduce::Total;
pub use targets::{Call, Mask, Target};
pub use {half, ndarray};
