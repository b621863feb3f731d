//! Integers of any size, with the operations that figures need: sums, products, roots, and quotients rounded once.

use std::cmp::Ordering;

/// A whole number: its sign and its limbs of 64 bits, lowest first, the highest of which is not 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Integer {
    negative: bool,
    limbs: Vec<u64>,
}

impl Integer {
    fn new(negative: bool, mut limbs: Vec<u64>) -> Self {
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        Integer { negative: negative && !limbs.is_empty(), limbs }
    }

    /// The integer of these bytes in two's complement, lowest first.
    pub(crate) fn from_le_bytes(bytes: &[u8]) -> Self {
        let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
        let fill = if negative { 0xff } else { 0 };
        let mut limbs: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut limb = [fill; 8];
                limb[..chunk.len()].copy_from_slice(chunk);
                u64::from_le_bytes(limb)
            })
            .collect();
        if negative {
            // -x = !x + 1.
            let mut carry = true;
            for limb in &mut limbs {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
            if carry {
                limbs.push(1);
            }
        }
        Integer::new(negative, limbs)
    }

    /// The numerator and the denominator of a finite number.
    pub(crate) fn ratio(x: f64) -> (Self, Self) {
        let bits = x.to_bits();
        let (exponent, fraction) = ((bits >> 52) as usize & 0x7ff, bits & ((1 << 52) - 1));
        let (whole, shift) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let units = Integer::new(bits >> 63 == 1, vec![whole]).shifted(shift);
        (units, Integer::from(1).shifted(1074))
    }

    fn is_zero(&self) -> bool {
        self.limbs.is_empty()
    }

    pub(crate) fn is_positive(&self) -> bool {
        !self.negative && !self.is_zero()
    }

    /// The number of bits of the magnitude.
    fn bits(&self) -> usize {
        self.limbs.last().map_or(0, |last| self.limbs.len() * 64 - last.leading_zeros() as usize)
    }

    pub(crate) fn negated(mut self) -> Self {
        self.negative = !self.negative && !self.is_zero();
        self
    }

    pub(crate) fn abs(mut self) -> Self {
        self.negative = false;
        self
    }

    /// The number, or 0 where it is negative.
    pub(crate) fn or_zero(self) -> Self {
        if self.negative { Integer::default() } else { self }
    }

    /// Times 2^`by`.
    pub(crate) fn shifted(&self, by: usize) -> Self {
        let (limbs, bits) = (by / 64, by % 64);
        let mut shifted = vec![0; limbs];
        let mut carry = 0;
        for limb in &self.limbs {
            shifted.push(limb << bits | carry);
            carry = if bits == 0 { 0 } else { limb >> (64 - bits) };
        }
        shifted.push(carry);
        Integer::new(self.negative, shifted)
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        if self.negative == other.negative {
            return Integer::new(self.negative, sum(&self.limbs, &other.limbs));
        }
        match compare(&self.limbs, &other.limbs) {
            Ordering::Less => Integer::new(other.negative, difference(&other.limbs, &self.limbs)),
            _ => Integer::new(self.negative, difference(&self.limbs, &other.limbs)),
        }
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        self.plus(&other.clone().negated())
    }

    pub(crate) fn times(&self, other: &Self) -> Self {
        let mut limbs = vec![0_u64; self.limbs.len() + other.limbs.len()];
        for (i, a) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (j, b) in other.limbs.iter().enumerate() {
                let all = u128::from(*a) * u128::from(*b) + u128::from(limbs[i + j]) + carry;
                limbs[i + j] = all as u64;
                carry = all >> 64;
            }
            limbs[i + other.limbs.len()] = carry as u64;
        }
        Integer::new(self.negative != other.negative, limbs)
    }

    /// The largest integer whose square is not above the magnitude.
    pub(crate) fn root(&self) -> Self {
        // Bit by bit: r grows by b where (r + b)^2 = r^2 + 2 r b + b^2 still fits.
        let mut left = self.clone().abs();
        let mut root = Integer::default();
        for at in (0..self.bits().div_ceil(2)).rev() {
            let step = root.shifted(at + 1).plus(&Integer::from(1).shifted(2 * at));
            if compare(&step.limbs, &left.limbs) != Ordering::Greater {
                left = left.minus(&step);
                root = root.plus(&Integer::from(1).shifted(at));
            }
        }
        root
    }

    /// `self` / `divisor`, rounded once, to nearest even: infinite where it is too large, and nan for a divisor of 0.
    pub(crate) fn over(&self, divisor: &Self) -> f64 {
        // Bits of the quotient: the 53 of a number, and two to round by.
        const BITS: isize = 55;
        // The exponents of the last bit of the smallest and of the largest numbers.
        const SMALLEST: isize = -1074;
        const LARGEST: isize = 971;
        if divisor.is_zero() {
            return f64::NAN;
        }
        if self.is_zero() {
            return if divisor.negative { -0.0 } else { 0.0 };
        }
        // |self| / |divisor| = (whole + rest / divisor) 2^exponent, with 55 or 56 bits of `whole`, or as many as there
        // are down to two bits below the last of the smallest numbers.
        let exponent = (self.bits() as isize - divisor.bits() as isize - BITS).max(SMALLEST - 2);
        let (above, below) = (exponent.min(0).unsigned_abs(), exponent.max(0).unsigned_abs());
        let (mut rest, by) = (self.shifted(above).abs(), divisor.shifted(below).abs());
        let mut whole = 0_u64;
        for at in (0..(rest.bits() + 1).saturating_sub(by.bits())).rev() {
            let step = by.shifted(at);
            if compare(&step.limbs, &rest.limbs) != Ordering::Greater {
                rest = rest.minus(&step);
                whole |= 1 << at;
            }
        }
        let bits = (u64::BITS - whole.leading_zeros()) as isize;
        let dropped = (bits - 53).max(SMALLEST - exponent);
        let (kept, lost, half) = (whole >> dropped, whole & ((1 << dropped) - 1), 1 << (dropped - 1));
        let up = lost > half || lost == half && (!rest.is_zero() || kept & 1 == 1);
        // At most 2^53, so that no product below rounds: it is the result, or what is too large.
        let (kept, exponent) = ((kept + u64::from(up)) as f64, (exponent + dropped).min(LARGEST + 1));
        let magnitude = kept * power_of_two(exponent / 2) * power_of_two(exponent - exponent / 2);
        if self.negative == divisor.negative { magnitude } else { -magnitude }
    }
}

impl From<u64> for Integer {
    fn from(value: u64) -> Self {
        Integer::new(false, vec![value])
    }
}

/// 2^`exponent`, of a normal number.
fn power_of_two(exponent: isize) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

fn compare(a: &[u64], b: &[u64]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.iter().rev().cmp(b.iter().rev()))
}

fn sum(a: &[u64], b: &[u64]) -> Vec<u64> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let (mut limbs, mut carry) = (Vec::with_capacity(long.len() + 1), 0_u128);
    for (i, limb) in long.iter().enumerate() {
        let all = u128::from(*limb) + u128::from(short.get(i).copied().unwrap_or(0)) + carry;
        limbs.push(all as u64);
        carry = all >> 64;
    }
    limbs.push(carry as u64);
    limbs
}

/// a - b, where a is no less.
fn difference(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut borrow = false;
    a.iter()
        .enumerate()
        .map(|(i, limb)| {
            let (once, first) = limb.overflowing_sub(b.get(i).copied().unwrap_or(0));
            let (twice, second) = once.overflowing_sub(u64::from(borrow));
            borrow = first || second;
            twice
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(value: i128) -> Integer {
        Integer::from_le_bytes(&value.to_le_bytes())
    }

    fn small(value: &Integer) -> i128 {
        let limb = |i: usize| u128::from(value.limbs.get(i).copied().unwrap_or(0));
        assert!(value.limbs.len() <= 2);
        let magnitude = (limb(0) | limb(1) << 64) as i128;
        if value.negative { -magnitude } else { magnitude }
    }

    #[test]
    fn quotients_end_where_numbers_end() {
        let one = Integer::from(1);
        let power = |by| one.shifted(by);
        assert_eq!(one.over(&power(1074)), 5e-324);
        // Half of the smallest number goes to 0, which is even; more goes up.
        assert_eq!(one.over(&power(1075)), 0.0);
        assert_eq!(Integer::from(3).over(&power(1076)), 5e-324);
        assert_eq!(power(1023).over(&one), 2.0_f64.powi(1023));
        assert_eq!(power(1024).over(&one), f64::INFINITY);
        assert_eq!(power(1024).negated().over(&one), f64::NEG_INFINITY);
        assert_eq!(power(5000).over(&power(4000).negated()), -(2.0_f64.powi(1000)));
        // The largest number, and half a unit more, of which half an even one would be kept.
        let largest = power(1024).minus(&power(971));
        assert_eq!(largest.over(&one), f64::MAX);
        assert_eq!(largest.plus(&power(970)).minus(&one).over(&one), f64::MAX);
        assert_eq!(largest.plus(&power(970)).over(&one), f64::INFINITY);
        assert!(one.over(&Integer::default()).is_nan());
        assert!(Integer::default().over(&one).is_sign_positive());
    }

    #[test]
    fn subnormal_quotients_are_rounded_once() {
        // Rounded to 53 bits first, both would be halfway between two of the 52 bits that there are, and go to the
        // other.
        for (quarters, expected) in
            [(((1_u64 << 51) + 1) * 4 + 1, (1 << 51) + 1), ((1 << 53) + 2, (1 << 51) + 1)]
        {
            let above = Integer::from(quarters).shifted(64).plus(&Integer::from(1));
            let quotient = above.over(&Integer::from(1).shifted(1074 + 2 + 64));
            assert_eq!(quotient.to_bits(), expected);
        }
    }

    proptest! {
        #[test]
        fn small_integers_are_those_of_the_machine(a in -(1_i128 << 62)..1 << 62, b in -(1_i128 << 62)..1 << 62) {
            prop_assert_eq!(small(&of(a).plus(&of(b))), a + b);
            prop_assert_eq!(small(&of(a).minus(&of(b))), a - b);
            prop_assert_eq!(small(&of(a).times(&of(b))), a * b);
            prop_assert_eq!(small(&of(a).shifted(63)), a << 63);
            let root = small(&of(a).root());
            prop_assert!(root * root <= a.abs() && (root + 1) * (root + 1) > a.abs());
        }

        #[test]
        fn a_quotient_of_numbers_is_that_of_the_machine(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite() && b != 0.0);
            let ((a_above, a_below), (b_above, b_below)) = (Integer::ratio(a), Integer::ratio(b));
            let got = a_above.times(&b_below).over(&a_below.times(&b_above));
            prop_assert_eq!(got, a / b);
        }

        #[test]
        fn an_integer_over_one_is_its_nearest_number(a in any::<i128>()) {
            prop_assert_eq!(of(a).over(&Integer::from(1)), a as f64);
        }

        #[test]
        fn bytes_of_any_number_are_read(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let fill = if bytes[bytes.len() - 1] >= 0x80 { 0xff } else { 0 };
            let mut longer = bytes.clone();
            longer.resize(64, fill);
            prop_assert_eq!(Integer::from_le_bytes(&bytes), Integer::from_le_bytes(&longer));
        }
    }
}
