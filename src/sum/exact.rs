//! Sums of `f64` without rounding: the same for any order and any grouping of the terms.
//!
//! Every finite `f64` is a whole number of units of 2^-1074, so a sum of them is an integer. It is kept in digits of 32
//! bits, each in an `i64`, which holds the carries of 2^30 additions (the small superaccumulator of R. M. Neal, "Fast
//! exact summation using small and large superaccumulators", 2015).

use std::fmt;

use super::integer::Integer;

/// Bits of a digit.
const DIGIT: u32 = 32;

/// Digits: 2^-1074 to 2^1024, and 2^64 such terms.
const DIGITS: usize = 69;

/// Additions after which the carries are propagated, so that no digit overflows.
const MOST_ADDITIONS: u32 = 1 << 30;

/// A unit is 2^-1074: 1 is 2^1074 units.
const UNIT_BITS: usize = 1074;

/// A sum of `f64` numbers without rounding: the same for any order and any grouping of the terms.
///
/// The sum of the finite terms is kept as an integer of units of 2^-1074, in 592 bytes whatever their number;
/// infinities and nans are counted separately. Results are rounded once. Two sums are equal if their finite terms have
/// the same sum, and if they have as many terms of +inf, of -inf and of nan.
///
/// ```
/// use crossent::ExactSum;
///
/// let mut sum: ExactSum = [0.1; 10].into_iter().collect();
/// assert_eq!(sum.to_f64(), 1.0);
/// assert_eq!([0.1; 10].iter().sum::<f64>(), 0.9999999999999999);
/// sum.merge(&[1e100, 0.5, -1e100].into_iter().collect());
/// assert_eq!((sum.to_f64(), sum.mean(13)), (1.5, 1.5 / 13.0));
/// ```
#[derive(Clone)]
pub struct ExactSum {
    digits: [i64; DIGITS],
    /// Additions since the carries were propagated.
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
        if self.added == MOST_ADDITIONS {
            self.carry();
        }
    }

    /// Adds the square of a number, as [`Self::add_product`] does.
    #[inline]
    pub fn add_square(&mut self, x: f64) {
        self.add_product(x, x);
    }

    /// Adds a product and its rounding error: exactly the product, unless it is infinite or its rounding error
    /// underflows.
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

    /// Propagates the carries: all digits but the last, which has the sign, become numbers of 32 bits.
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

    /// Whether all terms were finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.special == [0; 3]
    }

    /// The sum, rounded once, to nearest even. Infinities and nans add up as they do in floating point.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        self.mean(1)
    }

    /// The sum over `count`, rounded once, to nearest even; nan for a count of 0.
    #[must_use]
    pub fn mean(&self, count: u64) -> f64 {
        let [plus, minus, nan] = self.special.map(|terms| terms > 0);
        match (count, plus, minus) {
            (0, ..) | (_, true, true) => f64::NAN,
            _ if nan => f64::NAN,
            (_, true, _) => f64::INFINITY,
            (_, _, true) => f64::NEG_INFINITY,
            _ => self.total().over(&ones(count)),
        }
    }

    /// The sum over another, rounded once, to nearest even; nan over a sum of 0.
    pub(crate) fn over(&self, other: &ExactSum) -> f64 {
        if self.is_finite() && other.is_finite() {
            return self.total().over(&other.total());
        }
        self.to_f64() / other.to_f64()
    }

    /// The finite terms' sum in units of 2^-1074: the bytes of a signed integer, lowest first. And how many terms were
    /// +inf, -inf and nan.
    #[must_use]
    pub fn units(&self) -> (Vec<u8>, [u64; 3]) {
        let mut sum = self.clone();
        sum.carry();
        (sum.digits.iter().flat_map(|digit| (*digit as u32).to_le_bytes()).collect(), self.special)
    }

    /// The finite terms' sum in units of 2^-1074.
    pub(crate) fn total(&self) -> Integer {
        Integer::from_le_bytes(&self.units().0)
    }
}

/// `count` as a number of units.
pub(crate) fn ones(count: u64) -> Integer {
    Integer::from(count).shifted(UNIT_BITS)
}

/// n sum(a b) - sum(a) sum(b) of n pairs, in units of 2^-2148: their sample covariance times [`covariance_divisor`].
pub(crate) fn covariance(products: &ExactSum, a: &ExactSum, b: &ExactSum, count: u64) -> Integer {
    products.total().times(&ones(count)).minus(&a.total().times(&b.total()))
}

/// n (n - 1), in units of 2^-2148.
pub(crate) fn covariance_divisor(count: u64) -> Integer {
    ones(count).times(&ones(count.saturating_sub(1)))
}

/// The sample standard deviation (with n - 1) over the root of n, from the sum of n terms and that of their squares;
/// nan for fewer than two terms.
pub(crate) fn standard_error(squares: &ExactSum, sum: &ExactSum, count: u64) -> f64 {
    if count < 2 || !(squares.is_finite() && sum.is_finite()) {
        return f64::NAN;
    }
    let variance = covariance(squares, sum, sum, count).or_zero();
    variance.over(&covariance_divisor(count).times(&Integer::from(count))).sqrt()
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.units() == other.units()
    }
}

impl Extend<f64> for ExactSum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, terms: I) {
        terms.into_iter().for_each(|term| self.add(term));
    }
}

impl FromIterator<f64> for ExactSum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let mut sum = ExactSum::default();
        sum.extend(terms);
        sum
    }
}

impl fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [plus, minus, nan] = self.special;
        write!(f, "ExactSum({:?}", self.total().over(&ones(1)))?;
        for (terms, what) in [(plus, "inf"), (minus, "-inf"), (nan, "nan")] {
            if terms > 0 {
                write!(f, " + {terms} x {what}")?;
            }
        }
        write!(f, ")")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(terms: &[f64]) -> ExactSum {
        terms.iter().copied().collect()
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
    fn sums_are_exact_between_the_largest_and_the_smallest() {
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
        // All bits of the three digits are set, and the carries fill the digits again and again.
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

    #[test]
    fn sums_and_means_are_rounded_once() {
        let s = sum(&[1e16, 1.0, 1.0, 1.0]);
        assert_eq!((s.to_f64(), s.mean(2)), (1e16 + 4.0, 5e15 + 2.0));
        assert_eq!(sum(&[UNIT, UNIT, UNIT]).mean(2), 2.0 * UNIT);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).mean(2), f64::MAX);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).to_f64(), f64::INFINITY);
        assert_eq!(sum(&[-1.0, -1.0]).mean(3), -2.0 / 3.0);
        assert!(sum(&[1.0]).mean(0).is_nan());
    }

    #[test]
    fn infinities_and_nans_decide() {
        let inf = f64::INFINITY;
        for (terms, expected) in
            [(&[1.0, inf][..], inf), (&[-inf, inf], f64::NAN), (&[-inf], -inf), (&[inf, f64::NAN], f64::NAN)]
        {
            let (s, finite) = (sum(terms), false);
            assert_eq!(s.to_f64().to_bits(), expected.to_bits(), "{s:?}");
            assert_eq!(s.is_finite(), finite);
        }
        assert_eq!(format!("{:?}", sum(&[1.5, inf, inf, -inf])), "ExactSum(1.5 + 2 x inf + 1 x -inf)");
    }

    #[test]
    fn the_standard_error_is_that_of_the_definition() {
        let terms = [1.0, 2.0, 4.0, 9.0];
        let (mut squares, all) = (ExactSum::default(), sum(&terms));
        for x in terms {
            squares.add_square(x);
        }
        // The mean is 4; the squares of the differences sum to 9 + 4 + 0 + 25.
        assert_eq!(standard_error(&squares, &all, 4), (38.0_f64 / 3.0 / 4.0).sqrt());
        assert!(standard_error(&squares, &all, 1).is_nan());
        // What the roundings of squares may leave below 0 is 0.
        let tiny = sum(&[1e-200, 1e-200]);
        assert_eq!(standard_error(&ExactSum::default(), &tiny, 2), 0.0);
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
