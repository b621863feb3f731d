//! The sums of a tile's rows, and what follows from them: log sum exp, losses, probabilities, entropies.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::long::{Segment, sum_segment};
use super::short::{Unpacked, pack};
use super::walk::{LongRows, for_each_result_of_segments, group, pitch};
use crate::array::rows::{Rows, locate};
use crate::kernel::binary::{in_pivot_units, target_share_of_two, two_classes};
use crate::kernel::column::{Column, Packed};
use crate::kernel::double_double::{dd_add, dd_div, dd_mul, two_sum};
use crate::kernel::element::{Element, RealOf};
use crate::kernel::exp::power_of_two;
use crate::kernel::log_sum_exp::{TileSums, log_sum_exp, target_share};
use crate::kernel::long_row::{RowSum, merge};
use crate::kernel::packed_row::packed_sums;
use crate::kernel::prefetch::Ahead;
use crate::kernel::real::Real;
use crate::kernel::rowset::{all, bits};
use crate::kernel::short_row::{last_rows, pick, row_sums};
use crate::kernel::stats::{OnlineStats, RowStats, TileStats, tile_stats};
use crate::kernel::top::Top;
use crate::kernel::{BLOCK, SEGMENT, SHORT_ROW, TILE};
use crate::parallel::Context;
use crate::sum::reduce::TileLosses;

/// Up to so many classes, the targets' logits are picked from all classes of a tile; above, each is read at its place.
pub(super) const FEW: usize = 16;

/// What tiles are summed for: numbers of each row, or an output that is written after the sums.
#[derive(Clone, Copy, PartialEq)]
enum Purpose {
    Numbers,
    Output,
    Softmax,
}

impl Purpose {
    /// Whether it needs the logarithms of the sums.
    fn has_logs(self) -> bool {
        self != Purpose::Softmax
    }
}

/// The rows of an array, which [`Self::sum`] sums a [`Tile`] at a time, and the memory that one thread reuses from tile
/// to tile.
pub(crate) struct Tiles<'r, E: Element> {
    pub(super) rows: Rows<'r, E>,
    /// Rows of the tile.
    pub(super) len: usize,
    /// Where each of them starts.
    pub(super) offsets: [isize; TILE],
    /// Class c of row i at `c * TILE + i`, of short rows and of long rows that are packed.
    pub(super) packed: Packed<RealOf<E>>,
    /// Whether the sums are those of two classes, in units of the larger one's term.
    of_pair: bool,
    purpose: Purpose,
    /// The rows that are prefetched while a packed tile is written.
    pub(super) ahead: Ahead,
    /// Whether the rows of the tile are packed.
    pub(super) is_packed: bool,
    /// Of long rows that are not slices, a block of each row of a group; of short rows that are, the last ones of a
    /// run.
    pub(super) gathered: Vec<E>,
    /// Short rows: a scratch buffer for their q, packed too.
    pub(super) q: Packed<f64>,
    /// For what is written of a packed tile.
    pub(super) unpacked: Unpacked<'r, E>,
    pub(super) sums: TileSums<RealOf<E>>,
    /// The context under which the segments of a row are split among threads, where the rows are not.
    pub(super) segments: Option<Context<'r>>,
}

/// A tile whose active rows have been summed, for as long as no other tile is.
pub(crate) struct Tile<'t, 'r, E: Element>(pub(super) &'t mut Tiles<'r, E>);

impl<'r, E: Element> Tiles<'r, E> {
    /// `segments` comes from [`split_threads`].
    pub(crate) fn new(rows: Rows<'r, E>, segments: Option<Context<'r>>) -> Self {
        let classes = rows.layout.classes;
        let columns = if classes <= SHORT_ROW { classes } else { 0 };
        let gathered = match (classes <= SHORT_ROW, rows.layout.contiguous()) {
            (true, true) => last_rows::<E>(classes),
            (false, false) => group::<E>() * pitch(classes),
            _ => 0,
        };
        Tiles {
            rows,
            len: 0,
            offsets: [0; TILE],
            packed: Packed::new(columns, RealOf::<E>::ZERO),
            of_pair: false,
            purpose: Purpose::Numbers,
            ahead: Ahead::NOTHING,
            is_packed: columns > 0,
            gathered: vec![E::PADDING; gathered],
            q: Packed::new(0, 0.0),
            unpacked: Unpacked::new(),
            sums: TileSums::new(),
            segments,
        }
    }

    /// For an output of the logits' shape.
    pub(crate) fn for_output(self) -> Self {
        Tiles { purpose: Purpose::Output, ..self }
    }

    /// For a softmax, which does not need the logarithms of the sums.
    pub(crate) fn for_softmax(self) -> Self {
        Tiles { purpose: Purpose::Softmax, ..self }
    }

    pub(super) fn is_short(&self) -> bool {
        self.rows.layout.classes <= SHORT_ROW
    }

    /// Goes to the rows of `range` and finds their maxima, log1p(rest) and what a softmax is made of. Rows that are not
    /// `active` are not read, but for those packed with active neighbours.
    #[simd]
    pub(crate) fn sum<S: Simd>(&mut self, simd: S, range: Range<usize>, active: u64) -> Tile<'_, 'r, E> {
        self.go_to(range.clone());
        if active == 0 {
            return Tile(self);
        }
        if self.is_short() {
            self.sum_short(simd, range);
        } else if self.packs_long() {
            self.sum_packed(simd, range);
        } else {
            self.sum_long::<S, false>(simd, active, &mut [], &mut []);
        }
        Tile(self)
    }

    /// Sums the rows of `range` as [`Self::sum`] does, and finds the statistics of the active rows, whose target is
    /// `class`. The largest logits go to `tops` where there is one for each row. For rows with a nan, statistics and
    /// largest logits mean nothing.
    #[simd]
    pub(crate) fn sum_with_stats<S: Simd>(
        &mut self,
        simd: S,
        range: Range<usize>,
        class: &[usize; TILE],
        active: u64,
        stats: &mut TileStats,
        tops: &mut [Top],
    ) -> Tile<'_, 'r, E> {
        self.go_to(range.clone());
        if active == 0 {
            return Tile(self);
        }
        if self.is_short() {
            self.sum_short(simd, range);
            self.in_pivot_units(simd);
            tile_stats(simd, &self.packed, self.len, &self.sums.max, class, stats);
            if !tops.is_empty() {
                for i in bits(active) {
                    let of_row = self.packed.chunks_exact(TILE).map(|class| class[i].to_f64());
                    of_row.enumerate().for_each(|(class, x)| tops[i].offer(class, x));
                }
            }
        } else {
            let mut online = [OnlineStats::new(RealOf::<E>::ZERO, 0); TILE];
            for i in bits(active) {
                online[i] = OnlineStats::new(self.rows.get(self.offsets[i], class[i]).to_real(), class[i]);
            }
            self.sum_long::<S, true>(simd, active, &mut online, tops);
            for i in bits(active) {
                (stats.rows[i], stats.largest[i]) = (online[i].row, online[i].first);
            }
        }
        Tile(self)
    }

    /// Goes to the rows of `range`, whose maxima and sums are given: those of more classes than these. `rest` is the sum
    /// of exp(x - max) over all classes but one with the maximum.
    #[simd]
    pub(crate) fn with_sums<S: Simd>(
        &mut self,
        simd: S,
        range: Range<usize>,
        max: &[f64; TILE],
        rest: &[f64; TILE],
    ) -> Tile<'_, 'r, E> {
        if self.is_short() {
            // It packs the rows; that it sums them too costs little, and packing is compiled once.
            let len = range.len();
            self.sum(simd, range, all(len));
        } else {
            self.go_to(range);
        }
        let sums = &mut self.sums;
        for i in 0..self.len {
            sums.max[i] = RealOf::<E>::from_f64(max[i]);
            let mut all = rest[i];
            if sums.max[i].to_f64() != max[i] && max[i].is_finite() {
                // Another shard's type, f64, holds more: the sum is relative to the maximum rounded down to an f32, which
                // no logit here exceeds. What lies as far below as to overflow has a probability of 0.
                let near = max[i] as f32;
                let down = if f64::from(near) > max[i] { near.next_down() } else { near.max(f32::MIN) };
                sums.max[i] = RealOf::<E>::from_f64(f64::from(down));
                let rounding = (max[i] - sums.max[i].to_f64()).clamp(0.0, 700.0);
                all = (1.0 + rest[i]) * rounding.exp() - 1.0;
            }
            // As if all of the rest were ties: in units of the largest term.
            (sums.ties[i], sums.sum_exp_rest[i], sums.sum_exp_rest_low[i]) = (all, 0.0, 0.0);
        }
        log_sum_exp(simd, sums, self.len, self.purpose.has_logs());
        self.of_pair = false;
        Tile(self)
    }

    #[inline(always)]
    fn go_to(&mut self, range: Range<usize>) {
        self.len = range.len();
        if !self.is_short() {
            self.is_packed = false;
            locate(&self.rows.layout, range, &mut self.offsets);
        }
    }

    #[inline(always)]
    fn sum_short<S: Simd>(&mut self, simd: S, range: Range<usize>) {
        let (sums, logs) = (&mut self.sums, self.purpose.has_logs());
        let mut ahead = pack(simd, &self.rows, range, &mut self.packed, &mut self.gathered, &mut sums.max);
        if self.rows.layout.classes == 2 {
            two_classes(simd, &self.packed, self.len, ahead, sums, logs);
            self.of_pair = true;
            return;
        }
        if self.purpose != Purpose::Numbers {
            ahead = ahead.in_halves();
            self.ahead = ahead;
        }
        let to = (&mut sums.sum_exp_rest.0, &mut sums.sum_exp_rest_low.0);
        row_sums(simd, &self.packed, self.len, ahead, &sums.max, to, &mut sums.ties);
        log_sum_exp(simd, sums, self.len, logs);
    }

    /// Brings the sums of two classes to the units that all others have.
    #[inline(always)]
    pub(super) fn in_pivot_units<S: Simd>(&mut self, simd: S) {
        if std::mem::take(&mut self.of_pair) {
            in_pivot_units(simd, self.len, &mut self.sums);
        }
    }

    /// [`Self::is_pair`]; where it is false, the sums are brought to the units that a softmax is made of otherwise.
    #[inline(always)]
    pub(super) fn is_pair_or_in_pivot_units<S: Simd>(&mut self, simd: S) -> bool {
        let is_pair = self.is_pair();
        if !is_pair {
            self.in_pivot_units(simd);
        }
        is_pair
    }

    /// Whether a softmax is made of the one exponential of two classes.
    pub(super) fn is_pair(&self) -> bool {
        self.of_pair && !<RealOf<E> as Real>::IS_F64
    }

    /// Whether long rows are packed: those that are not slices, of one block.
    fn packs_long(&self) -> bool {
        !self.rows.layout.contiguous() && self.rows.layout.classes <= BLOCK
    }

    #[inline(always)]
    fn sum_packed<S: Simd>(&mut self, simd: S, range: Range<usize>) {
        self.packed.at_least(self.rows.layout.classes, RealOf::<E>::ZERO);
        self.is_packed = true;
        let (sums, logs) = (&mut self.sums, self.purpose.has_logs());
        let ahead = pack(simd, &self.rows, range, &mut self.packed, &mut self.gathered, &mut sums.max);
        let to = (&mut sums.sum_exp_rest.0, &mut sums.sum_exp_rest_low.0);
        packed_sums(simd, &self.packed, self.len, ahead, &sums.max, to, &mut sums.ties);
        log_sum_exp(simd, sums, self.len, logs);
    }

    /// `stats` and `tops` hold one for each row, or none at all.
    #[inline(always)]
    fn sum_long<S: Simd, const STATS: bool>(
        &mut self,
        simd: S,
        active: u64,
        stats: &mut [OnlineStats<RealOf<E>>],
        tops: &mut [Top],
    ) {
        let mut group = [RowSum::EMPTY; TILE];
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], active };
        let (classes, gathered) = (self.rows.layout.classes, &mut self.gathered);
        if classes <= SEGMENT {
            sum_segment::<S, E, STATS>(simd, long, gathered, 0..classes, &mut group, stats, tops);
        } else {
            let (new_stats, new_tops) = (stats.to_vec(), tops.to_vec());
            let segment = |_, range, gathered: &mut [E]| {
                let mut part = Segment {
                    sums: vec![RowSum::EMPTY; long.offsets.len()],
                    stats: new_stats.clone(),
                    tops: new_tops.clone(),
                };
                let Segment { sums, stats, tops } = &mut part;
                sum_segment::<S, E, STATS>(simd, long, gathered, range, sums, stats, tops);
                part
            };
            let mut nothing = OnlineStats::new(RealOf::<E>::ZERO, 0);
            for_each_result_of_segments(self.segments, classes, gathered, &segment, &mut |part| {
                for i in bits(active) {
                    let stats = stats.get_mut(i).unwrap_or(&mut nothing);
                    let other = part.stats.get(i).copied().unwrap_or(*stats);
                    merge::<S, RealOf<E>, STATS>(simd, &mut group[i], stats, part.sums[i], other);
                    if let (Some(top), Some(other)) = (tops.get_mut(i), part.tops.get(i)) {
                        top.merge(other);
                    }
                }
            });
        }
        for i in bits(active) {
            self.sums.max[i] = group[i].max;
            [self.sums.sum_exp_rest[i], self.sums.sum_exp_rest_low[i]] = group[i].total();
            self.sums.ties[i] = group[i].ties;
        }
        log_sum_exp(simd, &mut self.sums, self.len, self.purpose.has_logs());
    }
}

impl<E: Element> Tile<'_, '_, E> {
    /// The largest logit of row i.
    #[inline(always)]
    pub(crate) fn max(&self, i: usize) -> f64 {
        self.0.sums.max[i].to_f64()
    }

    /// log(1 + rest), so that log sum exp = max + this; nan where a logit is nan or +inf, or all are -inf.
    #[inline(always)]
    pub(crate) fn log1p_rest(&self, i: usize) -> f64 {
        self.0.sums.log1p_rest[i]
    }

    /// The sum of exp(x - max) over all classes of row i but one with the maximum, which is finite.
    pub(crate) fn rest(&self, i: usize) -> f64 {
        let sums = &self.0.sums;
        let rest = [sums.sum_exp_rest[i], sums.sum_exp_rest_low[i]];
        let [rest, low] = dd_div::<RealOf<E>>(rest, [sums.exp_max[i], sums.exp_max_low[i]]);
        rest + low
    }

    /// [`Self::log1p_rest`] as a double-double number.
    #[inline(always)]
    pub(crate) fn log1p_rest_dd(&self, i: usize) -> [f64; 2] {
        [self.0.sums.log1p_rest[i], self.0.sums.log1p_low[i]]
    }

    /// Adds z times the square of log sum exp to the losses of the active rows, as a term without weights.
    #[inline(never)]
    pub(crate) fn squared_log_sum_exp(&self, z: f64, active: u64, losses: &mut TileLosses) {
        losses.has_unweighted = true;
        losses.unweighted = Column::of(0.0);
        for i in bits(active) {
            let log_sum_exp = dd_add::<f64>([self.max(i), 0.0], self.log1p_rest_dd(i));
            let [square, low] = dd_mul::<f64>(log_sum_exp, log_sum_exp);
            losses.unweighted[i] =
                if square.is_finite() { z * (square + low) } else { (z * log_sum_exp[0]) * log_sum_exp[0] };
        }
    }

    /// log softmax of row i at a class, with the bits that the function `log_softmax` rounds.
    pub(crate) fn log_softmax(&self, i: usize, class: usize) -> f64 {
        let (x, max) = (self.logit(i, class), self.max(i));
        if !<RealOf<E> as Real>::IS_F64 {
            return (x - max) - self.log1p_rest(i);
        }
        let [rest, low] = self.log1p_rest_dd(i);
        let [high, error] = two_sum(max, rest);
        (x - high) - (error + low)
    }

    /// log sum exp of row i, with its limits: +inf if a logit is, -inf if all are, nan if one is nan.
    pub(crate) fn log_sum_exp(&self, i: usize) -> f64 {
        let max = self.max(i);
        if max.is_finite() {
            let [sum, low] = dd_add::<RealOf<E>>([max, 0.0], self.log1p_rest_dd(i));
            return sum + low;
        }
        // The vector maximum may have missed a nan beside an infinity.
        let has_nan = (0..self.0.rows.layout.classes).any(|c| self.logit(i, c).is_nan());
        if has_nan { f64::NAN } else { max }
    }

    /// One logit of row i.
    #[inline(always)]
    pub(crate) fn logit(&self, i: usize, class: usize) -> f64 {
        if self.0.is_packed {
            self.0.packed[class * TILE + i].to_f64()
        } else {
            self.0.rows.get(self.0.offsets[i], class).to_f64()
        }
    }

    /// The logit of a class of each active row.
    #[inline(always)]
    pub(crate) fn target_logits<S: Simd>(&self, simd: S, class: &[usize; TILE], active: u64) -> Column<f64> {
        if self.classes() <= FEW {
            return pick(simd, &self.0.packed, self.0.len, class);
        }
        let mut logits = Column::of(0.0);
        if self.0.is_packed {
            // Those of all rows, active or not, in two loops, of which the second is vectorized.
            let mut picked = Column::of(RealOf::<E>::ZERO);
            for (i, (to, class)) in picked.iter_mut().zip(class).enumerate() {
                *to = self.0.packed[class * TILE + i];
            }
            for (to, x) in logits.iter_mut().zip(picked.iter()) {
                *to = x.to_f64();
            }
            return logits;
        }
        for i in bits(active) {
            logits[i] = self.logit(i, class[i]);
        }
        logits
    }

    /// -log softmax of a class of each row, from the classes' logits.
    #[inline(always)]
    pub(crate) fn nll(&self, logits: &[f64; TILE], nll: &mut [f64; TILE]) {
        for i in 0..TILE {
            let [distance, distance_low] = self.distance_to_max(i, logits[i]);
            if !<RealOf<E> as Real>::IS_F64 {
                // The difference of two f32 is good to 53 bits.
                nll[i] = distance + self.log1p_rest(i);
            } else {
                let [sum, error] = two_sum(distance, self.log1p_rest(i));
                let low = error + (distance_low + self.0.sums.log1p_low[i]);
                nll[i] = sum + if low.is_nan() { 0.0 } else { low };
            }
        }
    }

    /// The distance of a logit of row i to the largest, double-double for rows of `f64`.
    #[inline(always)]
    fn distance_to_max(&self, i: usize, logit: f64) -> [f64; 2] {
        let max = self.max(i);
        if !<RealOf<E> as Real>::IS_F64 {
            return [max - logit, 0.0];
        }
        let [distance, error] = two_sum(max, -logit);
        [distance, if error.is_nan() { 0.0 } else { error }]
    }

    /// The first class with the largest logit; with a nan in the row, the first nan.
    pub(crate) fn argmax(&self, i: usize) -> usize {
        let classes = self.0.rows.layout.classes;
        let max = self.max(i);
        let found = if self.log1p_rest(i).is_nan() {
            (0..classes).find(|c| self.logit(i, *c).is_nan())
        } else {
            None
        };
        found.or_else(|| (0..classes).find(|c| self.logit(i, *c) == max)).unwrap_or(0)
    }

    /// softmax of a class of each row and 1 - that, from the classes' logits.
    #[inline(always)]
    pub(crate) fn share<S: Simd>(&self, simd: S, logits: &[f64; TILE]) -> (Column<f64>, Column<f64>) {
        let (mut share, mut miss) = (Column::of(0.0), Column::of(0.0));
        let Tiles { sums, len, .. } = &*self.0;
        if self.0.is_pair() {
            target_share_of_two(simd, sums, logits, *len, (&mut share, &mut miss));
        } else {
            target_share(simd, sums, logits, *len, (&mut share, &mut miss));
        }
        (share, miss)
    }

    pub(crate) fn classes(&self) -> usize {
        self.0.rows.layout.classes
    }

    /// The entropy of row i in nats; nan where it has no softmax.
    #[inline(always)]
    pub(crate) fn entropy(&self, i: usize, stats: &RowStats) -> f64 {
        let unit = power_of_two(-<RealOf<E> as Real>::SCALE);
        self.log1p_rest(i) + stats.max_minus_x * unit / (self.0.sums.exp_max[i] + self.0.sums.sum_exp_rest[i])
    }

    /// The largest probability of row i.
    #[inline(always)]
    pub(crate) fn confidence(&self, i: usize) -> f64 {
        self.0.sums.exp_max[i] / (self.0.sums.exp_max[i] + self.0.sums.sum_exp_rest[i])
    }

    /// The sum over the classes of (p - 1 if it is the target)^2, from the target's -log p and 1 - p.
    #[inline(always)]
    pub(crate) fn squared_error(&self, i: usize, stats: &RowStats, nll: f64, miss: f64) -> f64 {
        let unit = power_of_two(-<RealOf<E> as Real>::SCALE);
        let total = self.0.sums.exp_max[i] + self.0.sums.sum_exp_rest[i];
        let largest = self.confidence(i) * self.confidence(i);
        let below = stats.squares * unit / (total * total);
        if nll <= self.log1p_rest(i) {
            // The target is a largest class: nothing cancels.
            return miss * miss + (below + (stats.largest - 1.0) * largest);
        }
        // The sum of all p^2, and 1 - 2 p for the target.
        below + stats.largest * largest + (2.0 * miss - 1.0)
    }
}
