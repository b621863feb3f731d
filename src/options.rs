//! Options that losses share, as plain data: reduction, label smoothing, class weights.

use std::ops::Range;

use crate::error::Error;
use crate::kernel::BLOCK;
use crate::kernel::double_double::dd_mul;
use crate::kernel::real::Real;

/// How the losses of the rows become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduction {
    /// The weighted mean over the rows that count.
    Mean,
    /// The sum.
    Sum,
}

/// How much of the target is spread evenly over all classes: a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LabelSmoothing(f64);

impl LabelSmoothing {
    pub(crate) fn new(value: f64) -> Result<Self, Error> {
        if (0.0..=1.0).contains(&value) {
            Ok(LabelSmoothing(value))
        } else {
            Err(Error::LabelSmoothing(value))
        }
    }

    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

/// One weight for each class, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassWeights<'a>(Option<&'a [f64]>);

impl<'a> ClassWeights<'a> {
    /// Checks that there is one weight for each class of an input of this shape.
    pub(crate) fn new(weights: Option<&'a [f64]>, input: &[usize], axis: usize) -> Result<Self, Error> {
        match weights {
            Some(w) if w.len() != input[axis] => {
                Err(Error::WeightLength { got: w.len(), input: input.to_vec(), axis })
            }
            _ => Ok(ClassWeights(weights)),
        }
    }

    pub(crate) fn none() -> Self {
        ClassWeights(None)
    }

    pub(crate) fn as_slice(self) -> Option<&'a [f64]> {
        self.0
    }

    /// The weights of at most a block of classes.
    #[inline(always)]
    pub(crate) fn block(self, classes: Range<usize>) -> &'a [f64] {
        const ONES: &[f64; BLOCK] = &[1.0; BLOCK];
        match self.0 {
            Some(w) => &w[classes],
            None => &ONES[..classes.len()],
        }
    }

    /// The weight of a class; 1 where none were given.
    #[inline(always)]
    pub(crate) fn of(self, class: usize) -> f64 {
        self.0.map_or(1.0, |w| w[class])
    }
}

/// a b, where a weight a of 0 makes an infinite b vanish (a nan stays).
#[inline(always)]
pub(crate) fn weighted(a: f64, b: f64) -> f64 {
    if a == 0.0 && b.is_infinite() { 0.0 } else { a * b }
}

/// a b of double-double numbers, where a weight a of 0 makes an infinite b vanish (a nan stays).
#[inline(always)]
pub(crate) fn weighted_dd<R: Real>(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [weighted(a[0], b[0]), dd_mul::<R>(a, b)[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_a_number_from_zero_to_one() {
        for good in [0.0, 0.1, 1.0] {
            assert_eq!(LabelSmoothing::new(good).unwrap().get(), good);
        }
        for bad in [-0.1, 1.5, f64::NAN, f64::INFINITY] {
            assert!(LabelSmoothing::new(bad).is_err());
        }
    }

    #[test]
    fn zero_times_infinity_is_zero_and_nan_stays() {
        assert_eq!(weighted(0.0, f64::INFINITY), 0.0);
        assert!(weighted(0.0, f64::NAN).is_nan());
        assert_eq!(weighted(2.0, f64::INFINITY), f64::INFINITY);
    }
}
