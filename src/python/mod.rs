//! The binding: `crossent._core`.
//!
//! | file | step |
//! |---|---|
//! | `array` | an argument becomes a view of memory that NumPy owns |
//! | `result` | an array for a result; checks of `out=` |
//! | `memory` | its memory, where it is large |
//! | `hints` | what to do about an error |
//! | `call` | the interpreter released, Ctrl-C answered, errors turned into exceptions |
//! | `files` | pieces of files, read into a buffer |
//! | `losses`, `pointwise`, `rows`, `score`, `values`, `settings` | one wrapper for each function |

mod array;
mod call;
#[cfg(unix)]
mod files;
mod hints;
mod losses;
mod memory;
mod pointwise;
mod result;
mod rows;
mod score;
mod settings;
mod values;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("MOST_PROBABILITY", crate::scoring::values::MOST)?;
        module.add("BINS_PER_NAT", crate::scoring::score::BINS_PER_NAT as usize)?;
        module.add("LOSS_BINS", crate::scoring::score::LOSS_BINS)
    }

    #[cfg(unix)]
    #[pymodule_export]
    use super::files::read_pieces;
    #[pymodule_export]
    use super::hints::{out_of_range_hint, shape_hint};
    #[pymodule_export]
    use super::losses::{cross_entropy, cross_entropy_and_grad, nll_loss, nll_loss_and_grad};
    #[pymodule_export]
    use super::pointwise::{
        binary_cross_entropy, binary_cross_entropy_and_grad, binary_cross_entropy_with_logits,
        binary_cross_entropy_with_logits_and_grad, gaussian_nll_loss, kl_div, kl_div_and_grad,
        poisson_nll_loss,
    };
    #[pymodule_export]
    use super::rows::{log_sigmoid, log_softmax, logsumexp, softmax};
    #[pymodule_export]
    use super::score::{
        compare_sums, exact_sums, log_loss, percentiles, score, score_sums, temperature_sums,
    };
    #[pymodule_export]
    use super::settings::{build_info, get_num_threads, set_num_threads};
    #[pymodule_export]
    use super::values::{
        active_rows, check_targets, likely_mistake, likely_values, log_of_probabilities, targets_found,
    };
}
