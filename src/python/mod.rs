//! The binding: `crossent._core`.
//!
//! | file | step |
//! |---|---|
//! | `array` | an argument becomes a view of memory that NumPy owns |
//! | `result` | an array for a result; checks of `out=` |
//! | `memory` | the memory of large results |
//! | `hints` | what to do about an error |
//! | `call` | the interpreter released, Ctrl-C answered, errors turned into exceptions |
//! | `files` | pieces of files, read into a buffer |
//! | `losses`, `boosting`, `top_k`, `shard`, `pointwise`, `rows`, `score`, `values`, `settings` | wrappers of the functions that `functions!` names |

/// Defines `add`, which adds these functions of the file to the module.
macro_rules! functions {
    ($($function:ident)+) => {
        pub(super) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
            $(module.add_function(wrap_pyfunction!($function, module)?)?;)+
            Ok(())
        }
    };
}

mod array;
mod boosting;
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
mod shard;
mod top_k;
mod values;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("MOST_PROBABILITY", crate::scoring::values::MOST)?;
    module.add("BINS_PER_NAT", crate::scoring::score::BINS_PER_NAT as usize)?;
    module.add("LOSS_BINS", crate::scoring::score::LOSS_BINS)?;
    #[cfg(unix)]
    files::add(module)?;
    boosting::add(module)?;
    hints::add(module)?;
    losses::add(module)?;
    pointwise::add(module)?;
    result::add(module)?;
    rows::add(module)?;
    score::add(module)?;
    settings::add(module)?;
    shard::add(module)?;
    top_k::add(module)?;
    values::add(module)
}
