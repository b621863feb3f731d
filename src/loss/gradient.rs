//! Where a loss's gradient goes, and the upstream gradient that it is multiplied by.

use std::ops::Range;

use crate::array::rows::read;
use crate::array::rows::{Rows, RowsMut};
use crate::kernel::column::Column;

/// The gradient of the losses that follow, with respect to the input.
pub(crate) struct Gradient<'a, E> {
    pub out: RowsMut<'a, E>,
    pub upstream: Upstream<'a>,
    /// What the reduction divides by.
    pub divisor: f64,
    /// What it divides by in the terms of the losses that have no weights.
    pub unweighted_divisor: f64,
}

/// The gradient of a result with respect to the losses: `grad_output`.
pub(crate) enum Upstream<'a> {
    /// One number for all rows.
    Same(f64),
    /// One number for each row.
    Each(Rows<'a, f64>),
}

impl<E> Gradient<'_, E> {
    /// What the gradient of each row's loss is multiplied by.
    #[inline(always)]
    pub(crate) fn factors(&self, rows: Range<usize>) -> Column<f64> {
        self.upstream_over(rows, self.divisor)
    }

    /// What the gradient of the term without weights of each row's loss is multiplied by.
    pub(crate) fn unweighted_factors(&self, rows: Range<usize>) -> Column<f64> {
        self.upstream_over(rows, self.unweighted_divisor)
    }

    /// The upstream gradient of each row's loss, divided.
    #[inline(always)]
    fn upstream_over(&self, rows: Range<usize>, divisor: f64) -> Column<f64> {
        match &self.upstream {
            Upstream::Same(factor) => Column::of(factor / divisor),
            Upstream::Each(each) => {
                let mut factors = Column::of(0.0);
                read(each, rows, &mut factors.0, |factor| factor / divisor);
                factors
            }
        }
    }
}
