//! Where a loss's gradient goes, and the upstream gradient that it is multiplied by.

use std::ops::Range;

use crate::array::rows::read;
use crate::array::rows::{Rows, RowsMut};
use crate::kernel::TILE;

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
    pub(crate) fn factors(&self, rows: Range<usize>) -> [f64; TILE] {
        self.upstream(rows).map(|factor| factor / self.divisor)
    }

    /// What the gradient of the term without weights of each row's loss is multiplied by.
    pub(crate) fn unweighted_factors(&self, rows: Range<usize>) -> [f64; TILE] {
        self.upstream(rows).map(|factor| factor / self.unweighted_divisor)
    }

    /// The upstream gradient of each row's loss.
    #[inline(always)]
    fn upstream(&self, rows: Range<usize>) -> [f64; TILE] {
        let mut factors = [0.0; TILE];
        match &self.upstream {
            Upstream::Same(factor) => factors.fill(*factor),
            Upstream::Each(each) => read(each, rows, &mut factors, |factor| factor),
        }
        factors
    }
}
