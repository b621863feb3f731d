//! Statistics of rows besides a loss: scores, comparisons of two models, temperatures, log losses of probabilities.

pub(crate) mod columns;
pub(crate) mod compare;
pub(crate) mod figures;
pub(crate) mod log_loss;
pub(crate) mod score;
pub(crate) mod temperature;
pub(crate) mod values;
