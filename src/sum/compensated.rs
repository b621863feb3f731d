//! A sum that keeps what its roundings lose.

use crate::kernel::double_double::two_sum;

/// A sum that keeps what its roundings lose (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compensated {
    sum: f64,
    pub(crate) lost: f64,
}

impl Compensated {
    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) {
        let new = self.sum + value;
        self.lost +=
            if self.sum.abs() >= value.abs() { (self.sum - new) + value } else { (value - new) + self.sum };
        self.sum = new;
    }

    pub(crate) fn merge(&mut self, other: Compensated) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    pub(crate) fn get(self) -> f64 {
        self.parts()[0]
    }

    /// The sum and what is to be added to it.
    pub(crate) fn parts(self) -> [f64; 2] {
        // Infinities leave a nan in what was lost.
        if self.lost.is_finite() { two_sum(self.sum, self.lost) } else { [self.sum, 0.0] }
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
