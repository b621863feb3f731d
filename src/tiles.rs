//! A tile of rows on its way through the kernels: located, brought into the shape that a kernel
//! takes, summed, and asked for what a loss or an output needs.
//!
//! There are two ways. Short rows (at most [`NARROW`] classes) are packed class by class, lanes across the
//! rows. Long rows go to their kernel block by block: as slices where the classes are contiguous, else
//! gathered a group of rows at a time. Which way a row takes depends on its number of classes
//! alone, and a gathered block meets the same kernel as a slice: layouts cannot change a bit. Rows of more than [`SEGMENT`]
//! classes are cut into segments, which threads share out where there are too few rows for them.
//!
//! All of it runs on the instruction set that was chosen for the grain: each `#[simd]` method is compiled once for each
//! level and element type, and what is marked `#[inline(always)]` with it.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use crate::array::rows::locate;
use crate::array::rows::{Rows, RowsMut, Run};
use crate::kernel::element::{Element, RealOf, Vector};
use crate::kernel::exp::power_of_two;
use crate::kernel::finish::{TileSums, finish, target_share};
use crate::kernel::gap::{TileWeights, row_gap, tile_gap};
use crate::kernel::narrow::{
    Maxima, last_rows, pack_class, pack_rows, pick, row_maxima, row_sums, transpose_square, unpack_rows,
};
use crate::kernel::output::{
    RowFunction, Softmax, apply_to_row, apply_to_tile, gradient_of_row, gradient_of_tile,
};
use crate::kernel::pair::{plus, sum_of};
use crate::kernel::prefetch::{AHEAD_BYTES, Ahead, prefetch};
use crate::kernel::real::Real;
use crate::kernel::rowset::{all, bits};
use crate::kernel::scan::{Look, RowScan, TileScan, before_block, scan_tile};
use crate::kernel::stream::{fence, stream, to_next_line};
use crate::kernel::top::Top;
use crate::kernel::two::two_classes;
use crate::kernel::wide::{RowSum, absorb, block_max, merge};
use crate::kernel::{BLOCK, NARROW, SEGMENT, TILE};
use crate::options::ClassWeights;
use crate::parallel::{Context, for_each_segment};
use crate::sum::compensated::Compensated;

/// Tiles that a packed tile's classes are asked for in advance: each class is a stream of its own, more of them than a
/// processor follows by itself. Where classes are a power of two apart, what is asked for earlier is evicted before its use.
const AHEAD: usize = 3;

/// Up to so many classes, all of them are looked through for a tile's targets; else each row's target is read by itself.
const FEW: usize = 16;

/// Rows that are gathered together: where they follow each other in memory, their elements of one class fill four cache
/// lines, which are then read once whatever else falls into the same cache set.
const fn group<E>() -> usize {
    let rows = 256 / size_of::<E>();
    if rows < TILE { rows } else { TILE }
}

/// Rows that threads had better take together: those that are gathered together.
pub(crate) fn together<E: Element>(rows: &Rows<'_, E>) -> usize {
    let apart = rows.layout.contiguous() || rows.layout.classes <= NARROW;
    if apart { 1 } else { group::<E>() }
}

/// Distance of gathered rows: not a power of two, so that they do not compete for the same cache sets.
fn pitch(classes: usize) -> usize {
    classes.min(BLOCK).next_multiple_of(16) + 16
}

/// The rows of an array, a tile at a time. Holds what one thread reuses from tile to tile.
pub(crate) struct Tiles<'r, E: Element> {
    rows: Rows<'r, E>,
    /// Rows of the tile.
    len: usize,
    /// Where each of them starts.
    offsets: [isize; TILE],
    /// Short rows: class c of row i at `c * TILE + i`.
    packed: Vec<RealOf<E>>,
    /// Long rows that are not slices: a block of each row of a group. Short rows that are: the last ones of a run.
    gathered: Vec<E>,
    /// Short rows: their q, packed too, where there are any.
    q: Vec<f64>,
    sums: TileSums<RealOf<E>>,
    /// How far the logit of each row's target is below the largest, and what rounding took from that.
    gap: [f64; TILE],
    gap_lost: [f64; TILE],
    /// What shares out the segments of a row, if not the rows are shared out.
    segments: Option<Context<'r>>,
}

/// The first `len` numbers of memory that grows with its first use.
fn room(memory: &mut Vec<f64>, len: usize) -> &mut [f64] {
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    &mut memory[..len]
}

/// How many segments rows are cut into.
fn segments(classes: usize) -> usize {
    classes.div_ceil(SEGMENT)
}

/// Who shares out the rows to threads, and who the segments of a row: one of them works on this thread alone.
pub(crate) fn shared_out<'c, E: Element>(
    context: Context<'c>,
    rows: &Rows<'_, E>,
) -> (Context<'c>, Option<Context<'c>>) {
    context.for_rows_or_segments(rows.layout.line.len(), segments(rows.layout.classes))
}

/// Runs `work` on each segment's classes, and gives it memory to gather in.
#[inline(always)]
fn for_each_segment_of<E: Element, T: Send>(
    context: Option<Context<'_>>,
    classes: usize,
    gathered: &mut [E],
    work: impl Fn(Range<usize>, &mut [E]) -> T + Sync,
) -> Vec<T> {
    let part = |segment: usize| segment * SEGMENT..((segment + 1) * SEGMENT).min(classes);
    match context {
        Some(context) => {
            let gathered = gathered.len();
            for_each_segment(context, segments(classes), |i| work(part(i), &mut vec![E::PADDING; gathered]))
        }
        None => (0..segments(classes)).map(|i| work(part(i), gathered)).collect(),
    }
}

/// Where long rows are, and which of them count.
#[derive(Clone, Copy)]
struct LongRows<'t, 'r, E> {
    rows: &'t Rows<'r, E>,
    offsets: &'t [isize],
    counted: u64,
}

/// What a segment of a tile's rows has come to.
struct Segment<R> {
    sums: Vec<RowSum<R>>,
    looks: Vec<Look<R>>,
    tops: Vec<Top>,
}

/// For each row of a tile the sum over the classes of q (max - x), and that of q.
pub(crate) struct WeightedGaps {
    pub gaps: [f64; TILE],
    pub totals: [f64; TILE],
}

/// What the classes of a tile's rows are weighted with: q.
pub(crate) trait Weighting: Sync {
    /// q of a stretch of the classes of row i of the tile.
    fn row<S: Simd>(&self, simd: S, i: usize, classes: Range<usize>, q: &mut [f64]);

    /// q of a packed tile's rows; `memory` has room for one of each.
    fn tile<'m, S: Simd>(&self, simd: S, memory: &'m mut [f64]) -> TileWeights<'m>;

    /// The sums over a stretch of the classes of row i of q (max - x), and of q, where q need not be computed for that.
    #[inline(always)]
    fn gap<S: Simd, E: Element>(
        &self,
        _: S,
        _: usize,
        _: Range<usize>,
        _: &[E],
        _: f64,
    ) -> Option<(f64, f64)> {
        None
    }
}

/// The gradient of a tile's rows: scale softmax(x) - factor q, but `value` at a class.
pub(crate) struct TileGradient<'t, W> {
    /// For each row what its softmax is multiplied by.
    pub scale: &'t [f64; TILE],
    /// The target's entry, better known than the difference would be.
    pub entry: Option<(&'t [usize; TILE], &'t [f64; TILE])>,
    /// The factor of each row, and q.
    pub q: Option<(&'t [f64; TILE], W)>,
}

impl<'r, E: Element> Tiles<'r, E> {
    /// `segments` comes from [`shared_out`].
    pub(crate) fn new(rows: Rows<'r, E>, segments: Option<Context<'r>>) -> Self {
        let classes = rows.layout.classes;
        let packed = if classes <= NARROW { classes * TILE } else { 0 };
        let gathered = match (classes <= NARROW, rows.layout.contiguous()) {
            (true, true) => last_rows::<E>(classes),
            (false, false) => group::<E>() * pitch(classes),
            _ => 0,
        };
        Tiles {
            rows,
            len: 0,
            offsets: [0; TILE],
            packed: vec![RealOf::<E>::ZERO; packed],
            gathered: vec![E::PADDING; gathered],
            q: Vec::new(),
            sums: TileSums::new(),
            gap: [0.0; TILE],
            gap_lost: [0.0; TILE],
            segments,
        }
    }

    pub(crate) fn is_narrow(&self) -> bool {
        self.rows.layout.classes <= NARROW
    }

    /// Goes to the rows of `range` and finds their maxima and log1p(rest), and for `shares` what a softmax is made of (of more
    /// than two classes in any case). Rows that are not `counted` are not read, but for those packed with counted neighbours.
    #[simd]
    pub(crate) fn sum<S: Simd>(&mut self, simd: S, range: Range<usize>, counted: u64, shares: bool) {
        self.go_to(range.clone());
        if counted == 0 {
            return;
        }
        if self.is_narrow() {
            self.sum_narrow(simd, range, shares);
        } else {
            self.sum_wide::<S, false>(simd, counted, &mut [], &mut []);
        }
    }

    /// The same, with what the counted rows tell besides, compared with the target `class` of each. The largest logits go
    /// to `tops` where there is one for each row. Of rows with a nan, the largest are not known yet.
    #[simd]
    pub(crate) fn sum_and_look<S: Simd>(
        &mut self,
        simd: S,
        range: Range<usize>,
        class: &[usize; TILE],
        counted: u64,
        scan: &mut TileScan,
        tops: &mut [Top],
    ) {
        self.go_to(range.clone());
        if self.is_narrow() {
            self.sum_narrow(simd, range, true);
            scan_tile(simd, &self.packed, self.len, &self.sums.max, class, scan);
            if !tops.is_empty() {
                for i in bits(counted) {
                    (0..self.classes()).for_each(|class| tops[i].offer(class, self.logit(i, class)));
                }
            }
        } else {
            let mut looks = [Look::new(RealOf::<E>::ZERO, 0); TILE];
            for i in bits(counted) {
                looks[i] = Look::new(self.rows.get(self.offsets[i], class[i]).to_real(), class[i]);
            }
            self.sum_wide::<S, true>(simd, counted, &mut looks, tops);
            for i in bits(counted) {
                (scan.rows[i], scan.largest[i]) = (looks[i].scan, looks[i].first);
            }
        }
    }

    #[inline(always)]
    fn go_to(&mut self, range: Range<usize>) {
        self.len = range.len();
        if !self.is_narrow() {
            locate(&self.rows.layout, range, &mut self.offsets);
        }
    }

    #[inline(always)]
    fn sum_narrow<S: Simd>(&mut self, simd: S, range: Range<usize>, shares: bool) {
        let ahead = self.pack(simd, range);
        let sums = &mut self.sums;
        if self.rows.layout.classes == 2 {
            two_classes(simd, &self.packed, self.len, ahead, sums, shares);
            return;
        }
        let to = (&mut sums.others, &mut sums.others_low);
        row_sums(simd, &self.packed, self.len, ahead, &sums.max, to, &mut sums.ties);
        finish(simd, sums, self.len);
    }

    /// `looks` and `tops` hold one for each row, or none at all.
    #[inline(always)]
    fn sum_wide<S: Simd, const LOOK: bool>(
        &mut self,
        simd: S,
        counted: u64,
        looks: &mut [Look<RealOf<E>>],
        tops: &mut [Top],
    ) {
        let mut group = [RowSum::EMPTY; TILE];
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], counted };
        let (classes, gathered) = (self.rows.layout.classes, &mut self.gathered);
        if classes <= SEGMENT {
            sum_segment::<S, E, LOOK>(simd, long, gathered, 0..classes, &mut group, looks, tops);
        } else {
            let (new_looks, new_tops) = (&*looks, &*tops);
            let parts = for_each_segment_of(self.segments, classes, gathered, |range, gathered| {
                let mut part = Segment {
                    sums: vec![RowSum::EMPTY; long.offsets.len()],
                    looks: new_looks.to_vec(),
                    tops: new_tops.to_vec(),
                };
                let Segment { sums, looks, tops } = &mut part;
                sum_segment::<S, E, LOOK>(simd, long, gathered, range, sums, looks, tops);
                part
            });
            let mut nothing = Look::new(RealOf::<E>::ZERO, 0);
            for part in parts {
                for i in bits(counted) {
                    let look = looks.get_mut(i).unwrap_or(&mut nothing);
                    let other = part.looks.get(i).copied().unwrap_or(*look);
                    merge::<S, RealOf<E>, LOOK>(simd, &mut group[i], look, part.sums[i], other);
                    if let (Some(top), Some(other)) = (tops.get_mut(i), part.tops.get(i)) {
                        top.merge(other);
                    }
                }
            }
        }
        for i in bits(counted) {
            self.sums.max[i] = group[i].max;
            [self.sums.others[i], self.sums.others_low[i]] = group[i].total();
            self.sums.ties[i] = group[i].ties;
        }
        finish(simd, &mut self.sums, self.len);
    }

    /// The largest logit of row i.
    #[inline(always)]
    pub(crate) fn max(&self, i: usize) -> f64 {
        self.sums.max[i].to_f64()
    }

    /// log(1 + rest), so that log sum exp = max + this; nan where a logit is nan or +inf, or all are -inf.
    #[inline(always)]
    pub(crate) fn log1p_rest(&self, i: usize) -> f64 {
        self.sums.log1p_rest[i]
    }

    /// The same in two parts.
    #[inline(always)]
    pub(crate) fn log1p_rest_in_parts(&self, i: usize) -> [f64; 2] {
        [self.sums.log1p_rest[i], self.sums.log1p_low[i]]
    }

    /// log softmax of row i at a class, rounded as in a result of its own.
    pub(crate) fn log_softmax(&self, i: usize, class: usize) -> f64 {
        let (x, max) = (self.logit(i, class), self.max(i));
        if <RealOf<E> as Real>::HALVES == 2 {
            return (x - max) - self.log1p_rest(i);
        }
        let [rest, low] = self.log1p_rest_in_parts(i);
        let [high, lost] = sum_of(max, rest);
        (x - high) - (lost + low)
    }

    /// log sum exp of row i, with its limits: +inf if a logit is, -inf if all are, nan if one is nan.
    pub(crate) fn log_sum_exp(&self, i: usize) -> f64 {
        let max = self.max(i);
        if max.is_finite() {
            let [sum, low] = plus::<RealOf<E>>([max, 0.0], self.log1p_rest_in_parts(i));
            return sum + low;
        }
        // The vector maximum may have missed a nan beside an infinity.
        let has_nan = (0..self.rows.layout.classes).any(|c| self.logit(i, c).is_nan());
        if has_nan { f64::NAN } else { max }
    }

    /// One logit of row i.
    #[inline(always)]
    pub(crate) fn logit(&self, i: usize, class: usize) -> f64 {
        if self.is_narrow() {
            self.packed[class * TILE + i].to_f64()
        } else {
            self.rows.get(self.offsets[i], class).to_f64()
        }
    }

    /// -log softmax at the given class of each counted row.
    #[inline(always)]
    pub(crate) fn nll<S: Simd>(
        &mut self,
        simd: S,
        class: &[usize; TILE],
        counted: u64,
        nll: &mut [f64; TILE],
    ) {
        let logits = self.target_logits(simd, class, counted);
        self.nll_of(&logits, nll);
    }

    /// The logit of a class of each row that counts.
    #[inline(always)]
    pub(crate) fn target_logits<S: Simd>(&self, simd: S, class: &[usize; TILE], counted: u64) -> [f64; TILE] {
        if self.classes() <= FEW {
            return pick(simd, &self.packed, self.len, class);
        }
        let mut logits = [0.0; TILE];
        for i in bits(counted) {
            logits[i] = self.logit(i, class[i]);
        }
        logits
    }

    /// The negative log-likelihoods of classes with these logits, which [`Self::target_share`] is then about.
    #[inline(always)]
    pub(crate) fn nll_of(&mut self, logits: &[f64; TILE], nll: &mut [f64; TILE]) {
        for i in 0..TILE {
            let (max, x) = (self.max(i), logits[i]);
            let gap = max - x;
            self.gap[i] = gap;
            if <RealOf<E> as Real>::HALVES == 2 {
                // The difference of two f32 is theirs to 53 bits.
                nll[i] = gap + self.log1p_rest(i);
            } else {
                let lost = sum_of(max, -x)[1];
                self.gap_lost[i] = if lost.is_nan() { 0.0 } else { lost };
                let [sum, lost] = sum_of(gap, self.log1p_rest(i));
                let low = lost + (self.gap_lost[i] + self.sums.log1p_low[i]);
                nll[i] = sum + if low.is_nan() { 0.0 } else { low };
            }
        }
    }

    /// The first class with the largest logit; with a nan in the row, the first nan.
    pub(crate) fn argmax(&self, i: usize) -> usize {
        let classes = self.rows.layout.classes;
        let max = self.max(i);
        let found = if self.log1p_rest(i).is_nan() {
            (0..classes).find(|c| self.logit(i, *c).is_nan())
        } else {
            None
        };
        found.or_else(|| (0..classes).find(|c| self.logit(i, *c) == max)).unwrap_or(0)
    }

    /// For each counted row the sum over the classes of q (max - x), the same q for all rows.
    #[simd]
    pub(crate) fn gaps<S: Simd>(&mut self, simd: S, counted: u64, weight: ClassWeights<'_>) -> [f64; TILE] {
        let mut gaps = [0.0; TILE];
        if self.is_narrow() {
            let (q, max) = (TileWeights::Class(weight.block(0..self.rows.layout.classes)), &self.sums.max);
            let mut totals = [0.0; TILE];
            tile_gap::<_, _, false>(simd, &self.packed, q, self.len, max, &mut gaps, &mut totals);
        } else {
            let sums = self.gaps_wide(
                simd,
                counted,
                #[inline(always)]
                |_, classes, x, max, _| row_gap::<_, _, _, false>(simd, x, weight.block(classes), max),
            );
            bits(counted).for_each(|i| gaps[i] = sums[i].0.get());
        }
        gaps
    }

    /// For each counted row the sum over the classes of q (max - x), and that of q.
    #[simd]
    pub(crate) fn gaps_of<S: Simd>(
        &mut self,
        simd: S,
        counted: u64,
        weighting: impl Weighting,
    ) -> WeightedGaps {
        let mut gaps = [0.0; TILE];
        let mut totals = [0.0; TILE];
        if self.is_narrow() {
            let (q, max) = (weighting.tile(simd, room(&mut self.q, self.packed.len())), &self.sums.max);
            tile_gap::<_, _, true>(simd, &self.packed, q, self.len, max, &mut gaps, &mut totals);
        } else {
            let sums = self.gaps_wide(
                simd,
                counted,
                #[inline(always)]
                |i, classes, x, max, q| {
                    if let Some(gap) = weighting.gap(simd, i, classes.clone(), x, max) {
                        return gap;
                    }
                    weighting.row(simd, i, classes, q);
                    row_gap::<_, _, _, true>(simd, x, q, max)
                },
            );
            for i in bits(counted) {
                (gaps[i], totals[i]) = (sums[i].0.get(), sums[i].1.get());
            }
        }
        WeightedGaps { gaps, totals }
    }

    /// The sums of long rows, from those that `gap` gives for a stretch.
    #[inline(always)]
    fn gaps_wide<S: Simd>(
        &mut self,
        simd: S,
        counted: u64,
        gap: impl Fn(usize, Range<usize>, &[E], f64, &mut [f64]) -> (f64, f64) + Sync,
    ) -> [(Compensated, Compensated); TILE] {
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], counted };
        let (classes, gathered, max) = (self.rows.layout.classes, &mut self.gathered, &self.sums.max);
        let none = (Compensated::default(), Compensated::default());
        let mut sums = [none; TILE];
        let parts = for_each_segment_of(self.segments, classes, gathered, |range, gathered| {
            gap_segment(simd, long, gathered, range, max, &gap)
        });
        for part in parts {
            for i in bits(counted) {
                sums[i].0.merge(part[i].0);
                sums[i].1.merge(part[i].1);
            }
        }
        sums
    }

    /// p of the class of each row that [`Self::nll`] was asked for, and 1 - p.
    #[inline(always)]
    pub(crate) fn target_share<S: Simd>(&self, simd: S) -> ([f64; TILE], [f64; TILE]) {
        target_share(simd, &self.sums, &self.gap, &self.gap_lost, self.len)
    }

    /// Writes a function of every element of the tile to `out`, which may be the input itself.
    #[simd]
    pub(crate) fn write<S: Simd, F: RowFunction>(
        &mut self,
        simd: S,
        range: Range<usize>,
        out: &RowsMut<'_, E>,
    ) {
        if self.is_narrow() {
            apply_to_tile::<S, E, F>(simd, &mut self.packed, &self.sums, self.len);
            self.unpack(simd, range, out);
            return;
        }
        self.write_blocks(
            simd,
            range,
            all(self.len),
            out,
            #[inline(always)]
            |sums, i, _, block, _, result| apply_to_row::<S, E, F>(simd, block, sums, i, result),
        );
    }

    /// Writes the gradient of every counted row to `out`, which may be the input itself; 0 to the other rows, which are not
    /// read but for those packed with counted neighbours.
    #[simd]
    pub(crate) fn write_gradient<S: Simd>(
        &mut self,
        simd: S,
        range: Range<usize>,
        counted: u64,
        gradient: TileGradient<'_, impl Weighting>,
        out: &RowsMut<'_, E>,
    ) {
        let TileGradient { scale, entry, q } = gradient;
        self.sums.scale = *scale;
        if self.is_narrow() {
            match q {
                None => apply_to_tile::<S, E, Softmax>(simd, &mut self.packed, &self.sums, self.len),
                Some((factor, weighting)) => {
                    let q = weighting.tile(simd, room(&mut self.q, self.packed.len()));
                    gradient_of_tile::<S, E>(simd, &mut self.packed, q, factor, &self.sums, self.len);
                }
            }
            for i in 0..self.len {
                if counted >> i & 1 == 0 {
                    for class in self.packed.chunks_exact_mut(TILE) {
                        class[i] = RealOf::<E>::ZERO;
                    }
                } else if let Some((class, value)) = entry {
                    self.packed[class[i] * TILE + i] = E::near(value[i]);
                }
            }
            self.unpack(simd, range, out);
            return;
        }
        match q {
            None => self.write_blocks(
                simd,
                range.clone(),
                counted,
                out,
                #[inline(always)]
                |sums, i, _, block, _, result| apply_to_row::<S, E, Softmax>(simd, block, sums, i, result),
            ),
            Some((factor, weighting)) => self.write_blocks(
                simd,
                range.clone(),
                counted,
                out,
                #[inline(always)]
                |sums, i, start, block, q, result| {
                    weighting.row(simd, i, start..start + block.len(), q);
                    gradient_of_row(simd, block, q, factor[i], sums, i, result);
                },
            ),
        }
        let mut to = [0; TILE];
        locate(&out.layout, range, &mut to);
        for i in 0..self.len {
            // SAFETY: the rows of a tile belong to one thread.
            unsafe {
                if counted >> i & 1 == 0 {
                    out.fill(to[i], E::from_f64(0.0));
                } else if let Some((class, value)) = entry {
                    out.set(to[i], class[i], E::from_f64(value[i]));
                }
            }
        }
    }

    /// Writes a gradient of 0 to the rows of `range`.
    #[inline(always)]
    pub(crate) fn write_zeros(range: Range<usize>, out: &RowsMut<'_, E>) {
        let mut to = [0; TILE];
        locate(&out.layout, range.clone(), &mut to);
        for offset in &to[..range.len()] {
            // SAFETY: the rows of a tile belong to one thread.
            unsafe { out.fill(*offset, E::from_f64(0.0)) };
        }
    }

    /// Hands every block of the counted rows to `f`, with memory for as many q, and writes what comes back to `out`.
    #[inline(always)]
    fn write_blocks<S: Simd>(
        &mut self,
        simd: S,
        range: Range<usize>,
        counted: u64,
        out: &RowsMut<'_, E>,
        f: impl Fn(&TileSums<RealOf<E>>, usize, usize, &[E], &mut [f64], &mut [E]) + Sync,
    ) {
        let mut to = [0; TILE];
        locate(&out.layout, range, &mut to);
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], counted };
        let (classes, gathered, sums) = (self.rows.layout.classes, &mut self.gathered, &self.sums);
        for_each_segment_of(self.segments, classes, gathered, |range, gathered| {
            let f = |i: usize, start: usize, block: &[E], q: &mut [f64], result: &mut [E]| {
                f(sums, i, start, block, q, result);
            };
            write_segment::<S, E, _>(simd, long, gathered, range, (out, &to), f);
        });
    }

    /// Packs the rows of `range` and finds their maxima. Tells where the rows are that come some tiles later.
    #[inline(always)]
    fn pack<S: Simd>(&mut self, simd: S, range: Range<usize>) -> Ahead {
        let (rows, packed) = (&self.rows, &mut self.packed);
        let lanes = RealOf::<E>::LANES;
        let mut first = 0;
        let mut known = false;
        let mut ahead = Ahead::new(packed.as_ptr(), 0);
        let sums = &mut self.sums;
        rows.layout.line.runs(
            range,
            #[inline(always)]
            |run| {
                if run.stride == 1 && run.len == TILE {
                    let next = rows.rows_of(run, 0).as_ptr().wrapping_add(AHEAD * TILE);
                    ahead = Ahead::new(next, rows.layout.class_stride);
                    let mut max = Maxima::new(simd);
                    for (c, to) in packed.chunks_exact_mut(TILE).enumerate() {
                        let from = rows.rows_of(run, c);
                        pack_class(simd, from, to, &mut max);
                    }
                    max.store(&mut sums.max);
                    known = true;
                } else if run.stride == 1 {
                    for (c, to) in packed.chunks_exact_mut(TILE).enumerate() {
                        let from = rows.rows_of(run, c);
                        let to = &mut to[first..first + run.len];
                        let mut vectors = to.chunks_exact_mut(lanes);
                        for (to, from) in (&mut vectors).zip(from.chunks_exact(lanes)) {
                            E::load(simd, from).store_slice(to);
                        }
                        let done = run.len / lanes * lanes;
                        for (to, from) in vectors.into_remainder().iter_mut().zip(&from[done..]) {
                            *to = from.to_real();
                        }
                    }
                } else if rows.layout.contiguous() && run.stride == rows.layout.classes as isize {
                    let slab = rows.slab_of(run);
                    ahead = Ahead::new(slab.as_ptr_range().end.wrapping_byte_add(AHEAD_BYTES), TILE as isize);
                    pack_rows(
                        simd,
                        slab,
                        rows.layout.classes,
                        packed,
                        first,
                        &mut self.gathered,
                        &mut sums.max,
                    );
                    known = run.len == self.len;
                } else {
                    for (c, to) in packed.chunks_exact_mut(TILE).enumerate() {
                        for i in 0..run.len {
                            to[first + i] = rows.get(run.offset + i as isize * run.stride, c).to_real();
                        }
                    }
                }
                first += run.len;
            },
        );
        if !known {
            row_maxima(simd, packed, self.len, &mut sums.max);
        }
        ahead
    }

    #[inline(always)]
    fn unpack<S: Simd>(&self, simd: S, range: Range<usize>, out: &RowsMut<'_, E>) {
        let lanes = RealOf::<E>::LANES;
        let mut first = 0;
        out.layout.line.runs(
            range,
            #[inline(always)]
            |run| {
                let classes = out.layout.classes;
                if out.layout.contiguous() && classes > 0 && run.stride == classes as isize {
                    // SAFETY: the rows of a tile belong to one thread.
                    unpack_rows(simd, &self.packed, first, classes, unsafe { out.slab_of(run) });
                    first += run.len;
                    return;
                }
                for (c, from) in self.packed.chunks_exact(TILE).enumerate() {
                    let from = &from[first..first + run.len];
                    let whole = if run.stride == 1 { run.len / lanes * lanes } else { 0 };
                    if whole > 0 {
                        // SAFETY: the rows of a tile belong to one thread.
                        let to = unsafe { out.rows_of(run, c) };
                        // Whole cache lines only: a part of one would be written to memory by itself.
                        if out.streamed && run.len == TILE && to_next_line(to.as_ptr()) == 0 {
                            let mut lines = [E::PADDING; TILE];
                            for (to, from) in lines.chunks_exact_mut(lanes).zip(from.chunks_exact(lanes)) {
                                E::store(Vector::<E, S>::from_slice(simd, from), to);
                            }
                            stream(&lines, to);
                            continue;
                        }
                        prefetch(to.as_ptr().wrapping_add(AHEAD * TILE), TILE * size_of::<E>());
                        for (to, from) in to.chunks_exact_mut(lanes).zip(from.chunks_exact(lanes)) {
                            E::store(Vector::<E, S>::from_slice(simd, from), to);
                        }
                    }
                    for i in whole..run.len {
                        // SAFETY: as above.
                        unsafe { out.set(run.offset + i as isize * run.stride, c, E::from_real(from[i])) }
                    }
                }
                first += run.len;
            },
        );
        if out.streamed {
            fence();
        }
    }

    pub(crate) fn classes(&self) -> usize {
        self.rows.layout.classes
    }

    /// The entropy of row i in nats; nan where it has no softmax.
    #[inline(always)]
    pub(crate) fn entropy(&self, i: usize, scan: &RowScan) -> f64 {
        let unit = power_of_two(-<RealOf<E> as Real>::SCALE);
        self.log1p_rest(i) + scan.gap * unit / (self.sums.own[i] + self.sums.others[i])
    }

    /// The largest probability of row i.
    #[inline(always)]
    pub(crate) fn confidence(&self, i: usize) -> f64 {
        self.sums.own[i] / (self.sums.own[i] + self.sums.others[i])
    }

    /// The sum over the classes of (p - 1 if it is the target)^2, from the target's -log p and 1 - p.
    #[inline(always)]
    pub(crate) fn squared_error(&self, i: usize, scan: &RowScan, nll: f64, miss: f64) -> f64 {
        let unit = power_of_two(-<RealOf<E> as Real>::SCALE);
        let total = self.sums.own[i] + self.sums.others[i];
        let largest = self.confidence(i) * self.confidence(i);
        let below = scan.squares * unit / (total * total);
        if nll <= self.log1p_rest(i) {
            // The target is a largest class: nothing cancels.
            return miss * miss + (below + (scan.largest - 1.0) * largest);
        }
        // The sum of all p^2, and 1 - 2 p for the target.
        below + scan.largest * largest + (2.0 * miss - 1.0)
    }
}

/// Sums a segment's classes; see [`Tiles::sum_wide`].
#[simd]
#[inline(never)]
fn sum_segment<S: Simd, E: Element, const LOOK: bool>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    sums: &mut [RowSum<RealOf<E>>],
    looks: &mut [Look<RealOf<E>>],
    tops: &mut [Top],
) {
    let contiguous = long.rows.layout.contiguous();
    let mut nothing = Look::new(RealOf::<E>::ZERO, 0);
    let mut next_max = None;
    for_each_block(
        simd,
        long,
        gathered,
        classes,
        #[inline(always)]
        |i, start, block, next| {
            // One row after the other where they are contiguous: each block's maximum came with the block before.
            let max = next_max.unwrap_or_else(
                #[inline(always)]
                || block_max(simd, block),
            );
            let look = if LOOK { &mut looks[i] } else { &mut nothing };
            if LOOK {
                before_block::<S, E>(simd, look, start, block, max, sums[i].max);
                if let Some(top) = tops.get_mut(i) {
                    top.offer_block(simd, start, block, max);
                }
            }
            let next = absorb::<S, E, LOOK>(simd, &mut sums[i], block, max, next, look);
            if contiguous {
                next_max = Some(next);
            }
        },
    );
}

/// Sums q (max - x), and q, over a segment's classes; see [`Tiles::gaps_wide`].
#[simd]
#[inline(never)]
fn gap_segment<S: Simd, E: Element>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    max: &[RealOf<E>; TILE],
    gap: &impl Fn(usize, Range<usize>, &[E], f64, &mut [f64]) -> (f64, f64),
) -> Vec<(Compensated, Compensated)> {
    let mut sums = vec![(Compensated::default(), Compensated::default()); long.offsets.len()];
    let mut q = [0.0; BLOCK];
    for_each_block(
        simd,
        long,
        gathered,
        classes,
        #[inline(always)]
        |i, start, block, _| {
            let classes = start..start + block.len();
            let (gap, total) = gap(i, classes, block, max[i].to_f64(), &mut q[..block.len()]);
            sums[i].0.add(gap);
            sums[i].1.add(total);
        },
    );
    sums
}

/// Writes a segment's classes; see [`Tiles::write_blocks`].
#[simd]
#[inline(never)]
fn write_segment<S: Simd, E: Element, F: Fn(usize, usize, &[E], &mut [f64], &mut [E])>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    (out, to): (&RowsMut<'_, E>, &[isize; TILE]),
    f: F,
) {
    let LongRows { rows, offsets, counted } = long;
    let mut result = [E::PADDING; BLOCK];
    let mut q = [0.0; BLOCK];
    // `out` may be the input itself, so no slice of the input is alive when a block is written.
    if rows.layout.contiguous() {
        for i in bits(counted) {
            // Blocks end where cache lines of the output do.
            let first = out.to_next_line(to[i] + classes.start as isize);
            let (mut start, mut end) = (classes.start, classes.start + BLOCK - first);
            while start < classes.end {
                let block = rows.classes_of(offsets[i], start..end.min(classes.end));
                let (q, result) = (&mut q[..block.len()], &mut result[..block.len()]);
                f(i, start, block, q, result);
                put(out, to[i], start, result);
                (start, end) = (end, end + BLOCK);
            }
        }
        if out.streamed {
            fence();
        }
        return;
    }
    let pitch = pitch(rows.layout.classes);
    for_each_group::<E>(
        classes,
        offsets.len(),
        counted,
        #[inline(always)]
        |group: Range<usize>, counted, block: Range<usize>| {
            gather(simd, rows, &offsets[group.clone()], block.clone(), gathered);
            for k in bits(counted) {
                let gathered = &mut gathered[k * pitch..k * pitch + block.len()];
                let (q, result) = (&mut q[..block.len()], &mut result[..block.len()]);
                f(group.start + k, block.start, gathered, q, result);
                gathered.copy_from_slice(result);
            }
            scatter(simd, gathered, block, out, &to[group], counted);
        },
    );
}

/// Calls `f(row, first class, block, next block)` for the blocks of all counted rows: row after row where rows are slices,
/// and the last block is followed by nothing; else block after block for a group of rows, and no next.
#[inline(always)]
fn for_each_block<S: Simd, E: Element>(
    simd: S,
    long: LongRows<'_, '_, E>,
    gathered: &mut [E],
    classes: Range<usize>,
    mut f: impl FnMut(usize, usize, &[E], &[E]),
) {
    let LongRows { rows, offsets, counted } = long;
    let (contiguous, pitch) = (rows.layout.contiguous(), pitch(rows.layout.classes));
    let end_of = |start: usize| (start + BLOCK).min(classes.end);
    let mut start = classes.start;
    // The rows that are gathered, and those that are left: of them, or of all.
    let mut group = 0..0;
    let mut left = if contiguous { counted } else { 0 };
    if classes.is_empty() {
        return;
    }
    // Both ways share their call of `f`, which is large.
    loop {
        if !contiguous {
            while left == 0 {
                if group.end == offsets.len() {
                    (start, group) = (start + BLOCK, 0..0);
                    if start >= classes.end {
                        return;
                    }
                }
                group = group.end..(group.end + self::group::<E>()).min(offsets.len());
                left = counted >> group.start & all(group.len());
                if left != 0 {
                    gather(simd, rows, &offsets[group.clone()], start..end_of(start), gathered);
                }
            }
        } else if left == 0 {
            return;
        }
        let (k, at) = (left.trailing_zeros() as usize, start);
        if contiguous && start + BLOCK < classes.end {
            start += BLOCK;
        } else {
            left &= left - 1;
        }
        let (mut next, i): (&[E], usize) = (&[], group.start + k);
        let block = if contiguous {
            if left >> k & 1 == 0 {
                start = classes.start;
            }
            if left != 0 {
                next = rows.classes_of(offsets[left.trailing_zeros() as usize], start..end_of(start));
            }
            rows.classes_of(offsets[i], at..end_of(at))
        } else {
            &gathered[k * pitch..k * pitch + end_of(at) - at]
        };
        f(i, at, block, next);
    }
}

/// Calls `f(rows of the tile, which of them count, classes)` for each group with a row that counts, block after block.
#[inline(always)]
fn for_each_group<E>(
    classes: Range<usize>,
    rows: usize,
    counted: u64,
    mut f: impl FnMut(Range<usize>, u64, Range<usize>),
) {
    for start in classes.clone().step_by(BLOCK) {
        for first in (0..rows).step_by(group::<E>()) {
            let group = first..(first + group::<E>()).min(rows);
            let counted = counted >> first & all(group.len());
            if counted != 0 {
                f(group, counted, start..(start + BLOCK).min(classes.end));
            }
        }
    }
}

/// Writes a stretch of one row's classes.
#[inline(always)]
fn put<E: Element>(out: &RowsMut<'_, E>, offset: isize, start: usize, classes: &[E]) {
    if out.layout.contiguous() {
        // SAFETY: the rows of a tile belong to one thread.
        let to = unsafe { out.classes_of(offset, start..start + classes.len()) };
        if out.streamed {
            stream(classes, to);
        } else {
            to.copy_from_slice(classes);
        }
    } else {
        for (c, value) in classes.iter().enumerate() {
            // SAFETY: the rows of a tile belong to one thread.
            unsafe { out.set(offset, start + c, *value) }
        }
    }
}

/// Whether rows follow each other in memory, class by class.
#[inline(always)]
fn adjacent(offsets: &[isize]) -> bool {
    offsets.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

/// Brings a block of classes of a group of rows into rows of their own.
#[simd]
fn gather<S: Simd, E: Element>(
    simd: S,
    rows: &Rows<'_, E>,
    offsets: &[isize],
    block: Range<usize>,
    gathered: &mut [E],
) {
    let (lanes, pitch) = (RealOf::<E>::LANES, pitch(rows.layout.classes));
    let mut done = block.start;
    // Squares of as many rows as classes.
    let squares = if adjacent(offsets) { offsets.len() / lanes } else { 0 };
    while squares > 0 && done + lanes <= block.end {
        for first in (0..squares * lanes).step_by(lanes) {
            // From here to the same class of the next square.
            let next = if first + lanes < squares * lanes {
                lanes as isize
            } else {
                lanes as isize * rows.layout.class_stride - first as isize
            };
            let mut square = [Vector::<E, S>::splat(simd, RealOf::<E>::ZERO); 16];
            for (c, to) in square[..lanes].iter_mut().enumerate() {
                let run = Run { offset: offsets[first], stride: 1, len: lanes };
                let from = rows.rows_of(run, done + c);
                *to = E::load(simd, from);
                prefetch(from.as_ptr().wrapping_offset(next), 1);
            }
            transpose_square::<S, RealOf<E>>(&mut square);
            for (k, row) in square[..lanes].iter().enumerate() {
                let at = (first + k) * pitch + done - block.start;
                E::store(*row, &mut gathered[at..at + lanes]);
            }
        }
        done += lanes;
    }
    for (k, offset) in offsets.iter().enumerate() {
        let from = if k < squares * lanes { done } else { block.start };
        let to = &mut gathered[k * pitch + from - block.start..];
        for (to, class) in to.iter_mut().zip(from..block.end) {
            *to = rows.get(*offset, class);
        }
    }
}

/// The way back: writes the gathered rows that count.
#[simd]
fn scatter<S: Simd, E: Element>(
    simd: S,
    gathered: &[E],
    block: Range<usize>,
    out: &RowsMut<'_, E>,
    offsets: &[isize],
    counted: u64,
) {
    let (lanes, pitch) = (RealOf::<E>::LANES, pitch(out.layout.classes));
    let (mut done, mut squares) = (block.start, 0);
    if !out.layout.contiguous() && counted == all(offsets.len()) && adjacent(offsets) {
        squares = offsets.len() / lanes;
    }
    while squares > 0 && done + lanes <= block.end {
        for first in (0..squares * lanes).step_by(lanes) {
            let mut square = [Vector::<E, S>::splat(simd, RealOf::<E>::ZERO); 16];
            for (k, to) in square[..lanes].iter_mut().enumerate() {
                let at = (first + k) * pitch + done - block.start;
                *to = E::load(simd, &gathered[at..at + lanes]);
            }
            transpose_square::<S, RealOf<E>>(&mut square);
            for (c, column) in square[..lanes].iter().enumerate() {
                let run = Run { offset: offsets[first], stride: 1, len: lanes };
                // SAFETY: the rows of a tile belong to one thread.
                E::store(*column, unsafe { out.rows_of(run, done + c) });
            }
        }
        done += lanes;
    }
    for k in bits(counted) {
        let from = if k < squares * lanes { done } else { block.start };
        let at = k * pitch;
        put(out, offsets[k], from, &gathered[at + from - block.start..at + block.len()]);
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};
    use ndarray::{Array, Array2, Axis, s};
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::isa;

    /// log sum exp - max, by the book.
    fn log1p_rest(row: &[f64]) -> f64 {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let at = row.iter().position(|x| *x == max).unwrap();
        let rest: f64 = row.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, x)| (x - max).exp()).sum();
        rest.ln_1p()
    }

    /// What the tiles make of rows along `axis`, on one level.
    fn sums<E: Element>(view: &ndarray::ArrayView2<'_, E>, axis: usize, level: Level) -> Vec<(f64, f64)> {
        let rows = Rows::new(view, Some(axis));
        let mut tiles = Tiles::new(rows.clone(), None);
        let mut all_rows = Vec::new();
        let count = rows.layout.line.len();
        for first in (0..count).step_by(TILE) {
            let range = first..(first + TILE).min(count);
            dispatch!(level, simd => tiles.sum(simd, range.clone(), all(range.len()), false));
            all_rows.extend((0..range.len()).map(|i| (tiles.max(i), tiles.log1p_rest(i))));
        }
        all_rows
    }

    fn logits(rows: usize, classes: usize, scale: f64, offset: f64, seed: u64) -> Array2<f64> {
        let mut state = seed;
        Array::from_shape_simple_fn((rows, classes), || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) * scale + offset
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_rows_on_any_level_are_those_of_the_book(
            rows in 1_usize..70,
            classes in prop_oneof![1_usize..110, 1000_usize..2100],
            scale in prop_oneof![Just(1e-6), 0.1..300.0],
            offset in prop_oneof![Just(0.0), -1e6..1e6],
            seed: u64,
        ) {
            let x = logits(rows, classes, scale, offset, seed);
            let single = x.mapv(|x| x as f32);
            for (name, level) in isa::available() {
                for (i, (max, tail)) in sums(&x.view(), 1, level).into_iter().enumerate() {
                    let row = x.row(i).to_vec();
                    let want = log1p_rest(&row);
                    prop_assert!(row.contains(&max));
                    // The book rounds x - max, by up to half an ULP of the gap.
                    prop_assert!((tail - want).abs() <= (3e-15 + scale * f64::EPSILON) * want, "{name} f64 {tail} {want}");
                }
                for (i, (max, tail)) in sums(&single.view(), 1, level).into_iter().enumerate() {
                    let row: Vec<f64> = single.row(i).iter().map(|x| f64::from(*x)).collect();
                    let want = log1p_rest(&row);
                    prop_assert!(row.contains(&max));
                    // Below the smallest subnormal f32 the terms have faded to 0.
                    let bound = 4.0 * f64::from(f32::EPSILON) * want + f64::from(f32::from_bits(1));
                    prop_assert!((tail - want).abs() <= bound, "{name} f32 {tail} {want}");
                }
            }
        }

        #[test]
        fn layouts_do_not_change_a_bit(
            rows in 1_usize..70,
            classes in prop_oneof![1_usize..110, 1000_usize..2100],
            seed: u64,
        ) {
            let x = logits(rows, classes, 20.0, 3.0, seed).mapv(|x| x as f32);
            for (_, level) in isa::available() {
                let expected = sums(&x.view(), 1, level);
                prop_assert_eq!(&sums(&x.t(), 0, level), &expected);
                let fortran = x.t().as_standard_layout().into_owned();
                prop_assert_eq!(&sums(&fortran.t(), 1, level), &expected);
                let mut apart = Array2::<f32>::zeros((rows * 2, classes * 3));
                apart.slice_mut(s![..;-2, ..;3]).assign(&x);
                prop_assert_eq!(&sums(&apart.slice(s![..;-2, ..;3]), 1, level), &expected);
                let alone: Vec<_> = x.axis_chunks_iter(Axis(0), 1).flat_map(|row| sums(&row, 1, level)).collect();
                prop_assert_eq!(&alone, &expected);
            }
        }
    }

    #[test]
    fn levels_with_a_fused_multiply_add_agree_to_the_bit() {
        for classes in [5, 100, 101, 1500] {
            let x = logits(40, classes, 30.0, -2.0, 7).mapv(|x| x as f32);
            let fused: Vec<_> =
                isa::available().into_iter().filter(|(_, level)| isa::has_fma(*level)).collect();
            for (_, level) in &fused {
                assert_eq!(sums(&x.view(), 1, *level), sums(&x.view(), 1, fused[0].1));
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_told_apart() {
        const INF: f64 = f64::INFINITY;
        for (_, level) in isa::available() {
            for classes in [3, 100, 101, 1500] {
                let mut x = Array2::<f64>::zeros((6, classes));
                x.row_mut(0).fill(-INF);
                x[[1, classes - 1]] = INF;
                x[[2, 1]] = f64::NAN;
                x.row_mut(3).fill(-INF);
                x[[3, 0]] = f64::NAN;
                (x[[4, 0]], x[[4, 1]]) = (INF, f64::NAN);
                x.row_mut(5).fill(-INF);
                x[[5, 2]] = 1.0;
                let view = x.view();
                let mut tiles = Tiles::new(Rows::new(&view, Some(1)), None);
                dispatch!(level, simd => tiles.sum(simd, 0..6, all(6), false));
                let got: Vec<f64> = (0..6).map(|i| tiles.log_sum_exp(i)).collect();
                assert_eq!((got[0], got[1], got[5]), (-INF, INF, 1.0));
                assert!(got[2].is_nan() && got[3].is_nan() && got[4].is_nan(), "{got:?}");
                assert_eq!((tiles.argmax(2), tiles.argmax(5)), (1, 2));
                assert!((0..5).all(|i| tiles.log1p_rest(i).is_nan()));
            }
        }
    }
}
