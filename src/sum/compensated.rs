//! A compensated sum in `f64`.

use crate::kernel::double_double::two_sum;

/// A sum that keeps its rounding error (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compensated {
    sum: f64,
    /// The sum of the rounding errors.
    pub(crate) error: f64,
}

impl Compensated {
    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) {
        let new = self.sum + value;
        self.error +=
            if self.sum.abs() >= value.abs() { (self.sum - new) + value } else { (value - new) + self.sum };
        self.sum = new;
    }

    pub(crate) fn merge(&mut self, other: Compensated) {
        self.add(other.sum);
        self.error += other.error;
    }

    pub(crate) fn get(self) -> f64 {
        self.dd()[0]
    }

    /// The sum as a double-double number.
    pub(crate) fn dd(self) -> [f64; 2] {
        // The rounding error of an infinite sum is nan.
        if self.error.is_finite() { two_sum(self.sum, self.error) } else { [self.sum, 0.0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compensated(values: &[f64]) -> f64 {
        let mut sum = Compensated::default();
        for value in values {
            sum.add(*value);
        }
        sum.get()
    }

    #[test]
    fn what_cancels_is_not_lost() {
        assert_eq!(compensated(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(compensated(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(compensated(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }
}
