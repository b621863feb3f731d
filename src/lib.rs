//! Cross-entropy, negative log-likelihood and the functions around them, over [`ndarray`] views.
//!
//! The path of a row of logits through the crate, one step a file:
//!
//! ```text
//! view of an array
//!   loss, function   the public functions: check the arguments once, build the work, hand it out
//!   rows, targets    the array as rows in the target's order; targets that fit it
//!   parallel         rows in grains, grains on threads
//!   tiles            64 rows: located, packed or gathered for their kernel
//!   blocks           single elements of any dtype, in blocks of f64
//!   kernel           one row or tile to numbers, generic over the SIMD level
//!   reduce           losses of rows to a sum or a mean, in a fixed order
//!   exact            sums without rounding, for results that are merged in any order
//!   values           what rows are said to be: logits, log-probabilities, probabilities
//! ```
//!
//! ```
//! use crossent::{Call, ClassLoss, CrossEntropy, Reduction, Target};
//! use ndarray::array;
//!
//! let logits = array![[0.0500_f32, -0.6461, 0.9130, -0.0553], [-0.3201, 1.5033, 0.2070, 1.8456]].into_dyn();
//! let classes = array![0_i64, 0].into_dyn();
//! let loss = CrossEntropy::default().total(&logits.view(), &Target::I64(classes.view()), &Call::default())?;
//! assert_eq!(format!("{:.4}", loss.reduce(Reduction::Mean)), "2.2152");
//! # Ok::<(), crossent::Error>(())
//! ```

pub mod blocks;
pub mod compare;
pub mod error;
pub mod exact;
pub mod function;
pub mod kernel;
pub mod log_loss;
pub mod loss;
pub mod options;
pub mod parallel;
mod reduce;
pub mod rows;
pub mod score;
mod single;
pub mod targets;
pub mod temperature;
mod tiles;
mod top;
pub mod values;

#[cfg(feature = "python")]
mod python;

pub use blocks::{FloatsMut, Numbers};
pub use compare::{ComparisonRows, ComparisonSums, compare_sums};
pub use error::{Error, Held, HeldNumbers, TargetsFound};
pub use exact::ExactSum;
pub use function::{log_sigmoid, log_softmax, logsumexp, softmax};
pub use kernel::element::Element;
pub use log_loss::{LogLoss, log_loss};
pub use loss::cross_entropy::CrossEntropy;
pub use loss::nll_loss::NllLoss;
pub use loss::pointwise::{ElementLoss, Elementwise};
pub use loss::{Call, ClassLoss};
pub use options::Reduction;
pub use parallel::{Context, Interrupt, num_threads, set_num_threads};
pub use reduce::Total;
pub use rows::{View, ViewMut};
pub use score::{Columns, Group, Score, ScoreSums, score, score_sums, score_with_sums};
pub use targets::Target;
pub use temperature::{TemperatureSums, temperature_sums};
pub use values::{Improper, check_targets, likely_mistake, log_of_probabilities};
