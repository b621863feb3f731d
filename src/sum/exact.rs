//! Sums of `f64` without rounding: the same for any order and any grouping of the terms.
//!
//! Every finite `f64` is a whole number of units of 2^-1074, so a sum of them is an integer. It is kept in digits of 32
//! bits, each in an `i64` with room for the carries of 2^30 additions (the small superaccumulator of R. M. Neal, "Fast
//! exact summation using small and large superaccumulators", 2015).

/// Bits of a digit.
const DIGIT: u32 = 32;

/// Digits: 2^-1074 to 2^1024, and 2^64 such terms.
const DIGITS: usize = 69;

/// Additions after which the digits are made small again.
const ROOM: u32 = 1 << 30;

/// The sum of the terms added so far. Infinities and nans are counted apart.
#[derive(Clone, Debug)]
pub struct ExactSum {
    digits: [i64; DIGITS],
    /// Additions since the digits were small.
    added: u32,
    /// Terms that are +inf, -inf and nan.
    special: [u64; 3],
}

impl Default for ExactSum {
    fn default() -> Self {
        ExactSum { digits: [0; DIGITS], added: 0, special: [0; 3] }
    }
}

impl ExactSum {
    /// Adds a number.
    #[inline]
    pub fn add(&mut self, x: f64) {
        let bits = x.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            let kind = if fraction != 0 { 2 } else { usize::from(x < 0.0) };
            self.special[kind] += 1;
            return;
        }
        // Subnormal numbers have the exponent of the smallest normal ones.
        let (whole, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let shifted = u128::from(whole) << (shift % DIGIT);
        let sign = if bits >> 63 == 0 { 1 } else { -1 };
        let at = (shift / DIGIT) as usize;
        for (k, digit) in self.digits[at..at + 3].iter_mut().enumerate() {
            *digit += sign * i64::from((shifted >> (DIGIT * k as u32)) as u32);
        }
        self.added += 1;
        if self.added == ROOM {
            self.carry();
        }
    }

    /// Adds the square of a number, exactly where it is a normal one.
    #[inline]
    pub fn add_square(&mut self, x: f64) {
        self.add_product(x, x);
    }

    /// Adds a product: what its rounding takes away is added too.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64) {
        let product = a * b;
        self.add(product);
        if product.is_finite() {
            self.add(a.mul_add(b, -product));
        }
    }

    /// Adds all terms of another sum.
    pub fn merge(&mut self, other: &ExactSum) {
        self.carry();
        let mut other = other.clone();
        other.carry();
        for (to, from) in self.digits.iter_mut().zip(other.digits) {
            *to += from;
        }
        self.added = 2;
        for (to, from) in self.special.iter_mut().zip(other.special) {
            *to += from;
        }
    }

    /// Makes all digits but the last, which has the sign, numbers of 32 bits.
    fn carry(&mut self) {
        let mut carry = 0;
        for digit in &mut self.digits[..DIGITS - 1] {
            let all = *digit + carry;
            *digit = all & i64::from(u32::MAX);
            carry = all >> DIGIT;
        }
        self.digits[DIGITS - 1] += carry;
        self.added = 1;
    }

    /// The finite terms' sum in units of 2^-1074: the bytes of a signed integer, lowest first. And how many terms were +inf,
    /// -inf and nan.
    #[must_use]
    pub fn units(&self) -> (Vec<u8>, [u64; 3]) {
        let mut sum = self.clone();
        sum.carry();
        (sum.digits.iter().flat_map(|digit| (*digit as u32).to_le_bytes()).collect(), self.special)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(terms: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for x in terms {
            sum.add(*x);
        }
        sum
    }

    /// The sum as a number of units, where it is small.
    fn small(sum: &ExactSum) -> i128 {
        let (bytes, _) = sum.units();
        let low = i128::from_le_bytes(bytes[..16].try_into().unwrap());
        let fill = if low < 0 { 0xff } else { 0 };
        assert!(bytes[16..].iter().all(|b| *b == fill));
        low
    }

    const UNIT: f64 = 5e-324;

    #[test]
    fn the_smallest_number_is_one_unit() {
        assert_eq!(small(&sum(&[UNIT])), 1);
        assert_eq!(small(&sum(&[-UNIT, -UNIT])), -2);
        assert_eq!(small(&sum(&[f64::MIN_POSITIVE])), 1 << 52);
        assert_eq!(small(&sum(&[2.0_f64.powi(-1000)])), 1 << 74);
    }

    #[test]
    fn nothing_is_lost_between_the_largest_and_the_smallest() {
        let both = [f64::MAX, UNIT, f64::MAX, -f64::MAX, 1.0, -1.0, -f64::MAX];
        assert_eq!(small(&sum(&both)), 1);
        assert_eq!(small(&sum(&[1e300, -1e300, -0.0, 0.0])), 0);
    }

    #[test]
    fn infinities_and_nans_are_counted() {
        let s = sum(&[f64::INFINITY, 1.0, f64::NAN, f64::NEG_INFINITY, f64::INFINITY, -1.0]);
        assert_eq!(s.units().1, [2, 1, 1]);
        assert_eq!(small(&s), 0);
    }

    #[test]
    fn many_additions_do_not_overflow_a_digit() {
        // All bits of the three digits are set, and the room is used up again and again.
        let x = f64::from_bits((33 << 52) | ((1 << 52) - 1));
        let mut s = ExactSum::default();
        s.add(x);
        for _ in 0..70 {
            let all = s.clone();
            s.merge(&all);
        }
        let mut back = s.clone();
        for digit in &mut back.digits {
            *digit = -*digit;
        }
        s.merge(&back);
        assert_eq!(small(&s), 0);
    }

    #[test]
    fn the_square_of_a_number_is_exact() {
        let x = 1.0 + 2.0_f64.powi(-40);
        let mut s = ExactSum::default();
        s.add_square(x);
        for term in [-1.0, -(2.0_f64.powi(-39)), -(2.0_f64.powi(-80))] {
            s.add(term);
        }
        assert_eq!(small(&s), 0);
        s.add_square(f64::INFINITY);
        assert_eq!(s.units().1, [1, 0, 0]);
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(terms in proptest::collection::vec(any::<f64>(), 0..40), cut in 0_usize..40) {
            let whole = sum(&terms);
            let mut backwards = terms.clone();
            backwards.reverse();
            let cut = cut.min(terms.len());
            let mut parts = sum(&terms[cut..]);
            parts.merge(&sum(&terms[..cut]));
            prop_assert_eq!(whole.units(), sum(&backwards).units());
            prop_assert_eq!(whole.units(), parts.units());
        }

        #[test]
        fn whole_numbers_sum_to_whole_numbers(terms in proptest::collection::vec(-1_000_000_i64..1_000_000, 0..50)) {
            let s = sum(&terms.iter().map(|x| *x as f64 * UNIT).collect::<Vec<_>>());
            prop_assert_eq!(small(&s), i128::from(terms.iter().sum::<i64>()));
        }
    }
}
