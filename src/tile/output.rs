//! What is written for a tile: a function of every element, or the gradient of a loss.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd_macros::simd;

use super::long::{BlockFunction, write_segment};
use super::short::{Unpacked, unpack};
use super::sums::{FEW, Tile, Tiles};
use super::walk::{LongRows, for_each_segment_of};
use super::weighted::{Weighting, scratch};
use crate::array::rows::{RowsMut, locate};
use crate::kernel::binary::{diagonal_of_two, gradient_of_nll_of_two, gradient_of_two};
use crate::kernel::column::{Column, Packed};
use crate::kernel::element::{Element, RealOf};
use crate::kernel::output::{
    Diagonal, Entries, RowFunction, Softmax, apply_to_row, apply_to_tile, diagonal_of_row,
    gradient_and_diagonal_of_tile, gradient_of_row, gradient_of_tile,
};
use crate::kernel::real::Real;
use crate::kernel::rowset::{all, bits};
use crate::kernel::{SEGMENT, TILE};

/// Entries of targets, more accurate than the differences would be: the rows that have one, the target's class and the
/// entry.
type TargetEntries<'t> = (u64, &'t [usize; TILE], &'t [f64; TILE]);

/// The gradient of a tile's rows: scale softmax(x) - factor q, but for the targets' entries where they are given.
pub(crate) struct TileGradient<'t, W> {
    /// For each row what its softmax is multiplied by.
    pub scale: &'t [f64; TILE],
    pub entries: Option<TargetEntries<'t>>,
    /// The factor of each row, and q.
    pub q: Option<(&'t [f64; TILE], W)>,
}

/// The diagonal of the Hessian of a tile's rows.
pub(crate) struct TileHessian<'t, R> {
    pub of_rows: &'t Diagonal<R>,
    /// The target's class and its entry.
    pub entry: (&'t [usize; TILE], &'t [f64; TILE]),
}

/// What a thread keeps while it writes the Hessians of tile after tile.
pub(crate) struct HessianMemory<'o, E: Element> {
    packed: Packed<RealOf<E>>,
    unpacked: Unpacked<'o, E>,
}

impl<E: Element> HessianMemory<'_, E> {
    pub(crate) fn new() -> Self {
        HessianMemory { packed: Packed::new(0, RealOf::<E>::ZERO), unpacked: Unpacked::new() }
    }
}

impl<'r, E: Element> Tile<'_, 'r, E> {
    /// Writes a function of every element of the tile to `out`, which may be the input itself.
    #[simd]
    pub(crate) fn write<S: Simd, F: RowFunction>(self, simd: S, range: Range<usize>, out: &RowsMut<'r, E>) {
        let tiles = self.0;
        if tiles.is_packed {
            let len = tiles.len;
            let pair = F::SHARES && tiles.is_pair_or_in_pivot_units(simd);
            let behind = tiles.unpacked.behind.lines();
            if pair {
                tiles.sums.scale = Column::of(1.0);
                gradient_of_two::<S, E::Alike>(
                    simd,
                    &mut tiles.packed,
                    None,
                    None,
                    (&tiles.sums, len),
                    behind,
                );
            } else {
                let traffic = (tiles.ahead, behind);
                apply_to_tile::<S, E::Alike, F>(simd, &mut tiles.packed, &tiles.sums, len, traffic);
            }
            unpack(simd, &tiles.packed, range, out, &mut tiles.unpacked);
            return;
        }
        tiles.write_blocks(simd, range, all(tiles.len), out, false, &|sums, i, _, block, _, place| {
            apply_to_row::<S, E, F>(simd, block, sums, i, place);
        });
    }

    /// Writes the gradient of every row, with an entry for the target, and the diagonal of its Hessian to two arrays that
    /// are not the input.
    #[simd]
    pub(crate) fn write_gradient_and_hessian<S: Simd>(
        self,
        simd: S,
        range: Range<usize>,
        gradient: TileGradient<'_, impl Weighting>,
        hessian: TileHessian<'_, RealOf<E>>,
        HessianMemory { packed: memory, unpacked }: &mut HessianMemory<'r, E>,
        [gradient_out, hessian_out]: [&RowsMut<'r, E>; 2],
    ) {
        let TileHessian { of_rows, entry: (class, value) } = hessian;
        let tiles = self.0;
        if !tiles.is_short() {
            let active = all(tiles.len);
            tiles.write_blocks(
                simd,
                range.clone(),
                active,
                hessian_out,
                false,
                &|sums, i, _, block, _, place| {
                    diagonal_of_row::<S, E>(simd, block, of_rows, sums, i, place);
                },
            );
            let mut to = [0; TILE];
            locate(&hessian_out.layout, range.clone(), &mut to);
            for i in 0..tiles.len {
                // SAFETY: the rows of a tile belong to one thread.
                unsafe { hessian_out.set(to[i], class[i], E::from_f64(value[i])) };
            }
            Tile(tiles).write_gradient(simd, range, active, gradient, gradient_out);
            return;
        }
        let TileGradient { scale, entries, q } = gradient;
        tiles.sums.scale.0 = *scale;
        memory.at_least(tiles.rows.layout.classes, RealOf::<E>::ZERO);
        let pair = tiles.is_pair_or_in_pivot_units(simd);
        let buffer = scratch(&mut tiles.q, if q.is_some() { tiles.packed.len() } else { 0 });
        let q = q.map(|(factor, weighting)| (weighting.tile(simd, buffer), factor));
        let (packed, sums) = (&mut tiles.packed, (&tiles.sums, tiles.len));
        let behind = tiles.unpacked.behind.lines();
        if pair {
            diagonal_of_two(simd, packed, of_rows, sums, memory, unpacked.behind.lines());
            gradient_of_two::<S, E::Alike>(simd, packed, q, None, sums, behind);
        } else {
            let traffic = (tiles.ahead, [behind, unpacked.behind.lines()]);
            gradient_and_diagonal_of_tile::<S, E::Alike>(simd, packed, q, of_rows, sums, memory, traffic);
        }
        for i in 0..tiles.len {
            memory[class[i] * TILE + i] = E::near(value[i]);
        }
        if let Some(entries) = entries {
            tiles.set_entries(entries);
        }
        unpack(simd, &tiles.packed, range.clone(), gradient_out, &mut tiles.unpacked);
        unpack(simd, memory, range, hessian_out, unpacked);
    }

    /// Writes the gradient of every active row to `out`, which may be the input itself, and 0 to the other rows. Those
    /// are not read, but for rows packed with active neighbours.
    #[simd]
    pub(crate) fn write_gradient<S: Simd>(
        self,
        simd: S,
        range: Range<usize>,
        active: u64,
        gradient: TileGradient<'_, impl Weighting>,
        out: &RowsMut<'r, E>,
    ) {
        let TileGradient { scale, entries, q } = gradient;
        let tiles = self.0;
        tiles.sums.scale.0 = *scale;
        // Of long rows q is not packed.
        if tiles.is_packed && (tiles.is_short() || q.is_none()) {
            let pair = tiles.is_pair_or_in_pivot_units(simd);
            let few = tiles.rows.layout.classes <= FEW;
            let buffer = scratch(&mut tiles.q, if q.is_some() { tiles.packed.len() } else { 0 });
            let q = q.map(|(factor, weighting)| (weighting.tile(simd, buffer), factor));
            let chosen = match entries {
                Some((rows, class, value)) if few => Some(Entries::new::<E>(rows, class, value)),
                _ => None,
            };
            let (packed, chosen) = (&mut tiles.packed, chosen.as_ref());
            let (sums, behind) = ((&tiles.sums, tiles.len), tiles.unpacked.behind.lines());
            if pair {
                gradient_of_two::<S, E::Alike>(simd, packed, q, chosen, sums, behind);
            } else {
                gradient_of_tile::<S, E::Alike>(simd, packed, q, chosen, sums, (tiles.ahead, behind));
            }
            if let (Some(entries), None) = (entries, chosen) {
                tiles.set_entries(entries);
            }
            tiles.clear(active);
            unpack(simd, &tiles.packed, range, out, &mut tiles.unpacked);
            return;
        }
        match q {
            None => {
                tiles.write_blocks(
                    simd,
                    range.clone(),
                    active,
                    out,
                    false,
                    &|sums, i, _, block, _, place| {
                        apply_to_row::<S, E, Softmax>(simd, block, sums, i, place);
                    },
                );
            }
            Some((factor, weighting)) => {
                tiles.write_blocks(
                    simd,
                    range.clone(),
                    active,
                    out,
                    true,
                    &|sums, i, start, block, q, place| {
                        simd.vectorize(
                            #[inline(always)]
                            || {
                                let q = &mut q[..block.len()];
                                weighting.row(simd, i, start..start + block.len(), q);
                                gradient_of_row(simd, block, q, factor[i], sums, i, place);
                            },
                        );
                    },
                );
            }
        }
        let mut to = [0; TILE];
        locate(&out.layout, range, &mut to);
        for i in 0..tiles.len {
            // SAFETY: the rows of a tile belong to one thread.
            unsafe {
                if active >> i & 1 == 0 {
                    out.fill(to[i], E::from_f64(0.0));
                } else if let Some((rows, class, value)) = entries
                    && rows >> i & 1 == 1
                {
                    out.set(to[i], class[i], E::from_f64(value[i]));
                }
            }
        }
    }

    /// Whether [`Self::write_gradient_of_nll`] writes the gradient of these rows.
    pub(crate) fn is_pair(&self) -> bool {
        self.0.is_pair()
    }

    /// Writes scale times the gradient of -log softmax of each active row's class, for rows of two classes and finite
    /// scales, and 0 to the other rows: what [`Self::write_gradient`] would, without the targets' probabilities.
    #[simd]
    pub(crate) fn write_gradient_of_nll<S: Simd>(
        self,
        simd: S,
        range: Range<usize>,
        active: u64,
        class: &[usize; TILE],
        scale: &Column<f64>,
        out: &RowsMut<'r, E>,
    ) {
        let tiles = self.0;
        tiles.sums.scale = *scale;
        let behind = tiles.unpacked.behind.lines();
        gradient_of_nll_of_two::<S, E::Alike>(simd, &mut tiles.packed, class, &tiles.sums, tiles.len, behind);
        tiles.clear(active);
        unpack(simd, &tiles.packed, range, out, &mut tiles.unpacked);
    }
}

/// Writes a gradient of 0 to the rows of `range`.
#[inline(always)]
pub(crate) fn write_zeros<E: Element>(range: Range<usize>, out: &RowsMut<'_, E>) {
    let mut to = [0; TILE];
    locate(&out.layout, range.clone(), &mut to);
    for offset in &to[..range.len()] {
        // SAFETY: the rows of a tile belong to one thread.
        unsafe { out.fill(*offset, E::from_f64(0.0)) };
    }
}

impl<E: Element> Tiles<'_, E> {
    /// Sets the entries of targets of a packed gradient.
    #[inline(always)]
    fn set_entries(&mut self, (rows, class, value): TargetEntries<'_>) {
        for i in bits(rows & all(self.len)) {
            self.packed[class[i] * TILE + i] = E::near(value[i]);
        }
    }

    /// Makes the packed rows that are not active 0.
    #[inline(always)]
    fn clear(&mut self, active: u64) {
        for i in bits(all(self.len) & !active) {
            for class in self.packed.chunks_exact_mut(TILE) {
                class[i] = RealOf::<E>::ZERO;
            }
        }
    }

    /// Hands the blocks of every active row to `f`, with a buffer for their q if it `has_q`, and writes its results to
    /// `out`.
    #[simd]
    fn write_blocks<S: Simd>(
        &mut self,
        simd: S,
        range: Range<usize>,
        active: u64,
        out: &RowsMut<'_, E>,
        has_q: bool,
        f: BlockFunction<'_, E>,
    ) {
        let mut to = [0; TILE];
        locate(&out.layout, range, &mut to);
        let long = LongRows { rows: &self.rows, offsets: &self.offsets[..self.len], active };
        let (classes, gathered, sums) = (self.rows.layout.classes, &mut self.gathered, &self.sums);
        let segment = |classes, gathered: &mut [E]| {
            write_segment(simd, long, gathered, classes, (out, &to), (sums, f, has_q));
        };
        if classes <= SEGMENT {
            segment(0..classes, gathered);
        } else {
            for_each_segment_of(self.segments, classes, gathered, &|_, range, gathered| {
                segment(range, gathered);
            });
        }
    }
}
