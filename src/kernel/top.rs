//! The k largest of a row's logits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fearless_simd::prelude::*;

use super::element::{Element, RealOf, Vector};
use super::real::Real;

/// A logit and its class, in the order of a ranking: a nan before all numbers, equal logits by their class.
type Entry = (i64, Reverse<usize>);

/// A number whose order is that of the logits; a nan is the largest, and both zeros are one.
fn order(x: f64) -> i64 {
    if x.is_nan() {
        return i64::MAX;
    }
    let bits = (x + 0.0).to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The largest logits that were offered so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Top {
    size: usize,
    /// The least of them on top.
    heap: BinaryHeap<Reverse<Entry>>,
    /// The logit to exceed once there are enough.
    least: f64,
}

impl Top {
    /// Forgets all logits, and keeps the `size` largest from now on.
    pub(crate) fn restart(&mut self, size: usize) {
        self.size = size;
        self.heap.clear();
        self.least = f64::NEG_INFINITY;
    }

    fn is_full(&self) -> bool {
        self.heap.len() == self.size
    }

    /// Takes a logit into account. Classes come in their order: a later one never displaces its equal.
    pub(crate) fn offer(&mut self, class: usize, x: f64) {
        self.take_entry((order(x), Reverse(class)));
    }

    /// Takes the largest logits of later classes into account.
    pub(crate) fn merge(&mut self, other: &Top) {
        other.heap.iter().for_each(|Reverse(entry)| self.take_entry(*entry));
    }

    fn take_entry(&mut self, entry: Entry) {
        if !self.is_full() {
            self.heap.push(Reverse(entry));
        } else if let Some(mut least) = self.heap.peek_mut()
            && entry > least.0
        {
            *least = Reverse(entry);
        } else {
            return;
        }
        if let Some(Reverse((least, _))) = self.heap.peek().filter(|_| self.is_full()) {
            // The inverse of `order`.
            self.least = f64::from_bits((least ^ ((least >> 63) as u64 >> 1) as i64) as u64);
        }
    }

    /// Takes a block of classes from `start` on into account, whose maximum is `largest`; it holds no nan.
    #[inline(always)]
    pub(crate) fn offer_block<S: Simd, E: Element>(
        &mut self,
        simd: S,
        start: usize,
        block: &[E],
        largest: RealOf<E>,
    ) {
        if self.is_full() && largest.to_f64() <= self.least {
            return;
        }
        let lanes = RealOf::<E>::LANES;
        let vectors = block.chunks_exact(lanes);
        let rest = block.len() - vectors.remainder().len();
        for (k, x) in vectors.enumerate() {
            if self.is_full() {
                let least = Vector::<E, S>::splat(simd, RealOf::<E>::from_f64(self.least));
                if E::load(simd, x).simd_gt(least).to_bitmask() == 0 {
                    continue;
                }
            }
            for (lane, x) in x.iter().enumerate() {
                self.offer(start + k * lanes + lane, x.to_f64());
            }
        }
        for (k, x) in block[rest..].iter().enumerate() {
            self.offer(start + rest + k, x.to_f64());
        }
    }

    /// The classes of the largest logits, the largest first. Nothing is kept.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = usize> {
        let mut entries: Vec<Entry> = self.heap.drain().map(|Reverse(entry)| entry).collect();
        entries.sort_unstable_by(|a, b| b.cmp(a));
        entries.into_iter().map(|(_, Reverse(class))| class)
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::dispatch;
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::isa;

    fn expected(row: &[f32], k: usize) -> Vec<usize> {
        let mut classes: Vec<usize> = (0..row.len()).collect();
        classes.sort_by(|a, b| {
            let (x, y) = (row[*a], row[*b]);
            y.is_nan()
                .cmp(&x.is_nan())
                .then(y.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Equal))
                .then(a.cmp(b))
        });
        classes.truncate(k);
        classes
    }

    fn any_logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => (-20_i8..20).prop_map(|x| f32::from(x) / 4.0),
            1 => Just(f32::NAN),
            1 => prop_oneof![Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(-0.0), Just(0.0)],
        ]
    }

    proptest! {
        #[test]
        fn the_largest_come_first_and_the_first_of_ties(
            row in proptest::collection::vec(any_logit(), 1..200), k in 1_usize..20
        ) {
            let k = k.min(row.len());
            let has_nan = row.iter().any(|x| x.is_nan());
            for (_, level) in isa::available() {
                // The blocks of two halves, and those of a row with a nan one by one.
                let mut halves = [Top::default(), Top::default()];
                for (half, top) in halves.iter_mut().enumerate() {
                    top.restart(k);
                    for (b, block) in row.chunks(48).enumerate().filter(|(b, _)| (*b < 2) == (half == 0)) {
                        let largest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        if has_nan {
                            block.iter().enumerate().for_each(|(i, x)| top.offer(b * 48 + i, f64::from(*x)));
                        } else {
                            dispatch!(level, simd => top.offer_block(simd, b * 48, block, largest));
                        }
                    }
                }
                let [mut top, other] = halves;
                top.merge(&other);
                prop_assert_eq!(top.take().collect::<Vec<_>>(), expected(&row, k));
            }
        }
    }
}
