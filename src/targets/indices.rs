//! Class indices, each checked where it is used.

use std::ops::Range;

use fearless_simd::{Simd, dispatch};
use fearless_simd_macros::simd;

use super::active::{ActiveRows, all_tiles, all_tiles_here, first_active, mask_bits};
use crate::array::any::{Integer, IntegerRows, with_dtype};
use crate::array::rows::{Rows, read, unravel};
use crate::error::{Error, TargetsFound};
use crate::kernel::column::Column;
use crate::kernel::real::Real;
use crate::kernel::rowset::{all, bits};
use crate::kernel::{TILE, isa};
use crate::options::ClassWeights;
use crate::parallel::{Context, try_for_each_chunk_of};
use crate::sum::reduce::{ChunkSum, TileLosses};

/// The most numbers that are read again for the text of an error.
pub(super) const MOST_CHECKED: usize = 1 << 26;

/// Class indices, one for each row. Each is checked where it is used.
pub(crate) struct Labels<'a> {
    pub(super) values: IntegerRows<'a>,
    pub(super) mask: Option<Rows<'a, u8>>,
    pub(super) shape: &'a [usize],
    pub(super) classes: usize,
    pub(super) ignore_index: i64,
}

/// The classes of a tile's rows, and a bit for each active row.
pub(crate) struct TileLabels {
    pub class: Column<usize>,
    pub active: u64,
}

impl Default for TileLabels {
    fn default() -> Self {
        TileLabels { class: Column::of(0), active: 0 }
    }
}

/// A row's target is neither a class nor ignored.
pub(crate) struct OutOfRange;

/// The bits of `value` as an unsigned number, or the largest one where `usize` has fewer bits.
#[inline(always)]
fn as_unsigned(value: i64) -> usize {
    if usize::BITS == 64 { value as usize } else { usize::try_from(value).unwrap_or(usize::MAX) }
}

impl Labels<'_> {
    /// Some of the first rows: among them an active one, if there is any nearby. None is active where a target is out
    /// of range.
    pub(crate) fn first_active(&self, wanted: usize) -> ActiveRows {
        first_active(self.rows(), wanted, |rows| self.any_tile(rows).ok().map(|tile| tile.active))
    }

    /// Whether every row is left out. A row whose target is out of range is not.
    pub(crate) fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error> {
        let none = |tile| self.any_tile(tile).is_ok_and(|tile| tile.active == 0);
        all_tiles_here(self.rows(), context, none)
    }

    /// Whether something holds for the classes of all active rows.
    pub(crate) fn all_classes(
        &self,
        holds: impl Fn(usize) -> bool + Sync,
        context: Context<'_>,
    ) -> Result<bool, Error> {
        let all =
            |tile| self.any_tile(tile).is_ok_and(|tile| bits(tile.active).all(|i| holds(tile.class[i])));
        all_tiles(self.rows(), context, all)
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.shape.iter().product()
    }

    /// The class indices of the rows of `range`, as `from_i64` makes them. What int64 cannot hold becomes a number that
    /// is neither a class nor ignored.
    #[inline(always)]
    fn read<T>(&self, range: Range<usize>, to: &mut [T; TILE], from_i64: impl Fn(i64) -> T) {
        let beyond = if self.ignore_index == -1 { -2 } else { -1 };
        with_dtype!(integers &self.values, rows => {
            read(rows, range, to, #[inline(always)] |x| from_i64(x.to_i64().unwrap_or(beyond)));
        });
    }

    /// The labels of the rows of `range`, at most a tile.
    #[simd]
    pub(crate) fn tile<S: Simd>(
        &self,
        simd: S,
        range: Range<usize>,
        to: &mut TileLabels,
    ) -> Result<(), OutOfRange> {
        if !(0..self.classes as i64).contains(&self.ignore_index) {
            // The usual tile: every row has a class. Beyond its rows are classes of an earlier tile. Negative numbers
            // are huge as unsigned ones.
            self.read(range.clone(), &mut to.class, as_unsigned);
            let outside: usize = to.class.iter().map(|class| usize::from(*class >= self.classes)).sum();
            if outside == 0 {
                to.active = mask_bits(self.mask.as_ref(), range);
                return Ok(());
            }
        }
        self.read_any_tile(range, to)
    }

    pub(super) fn any_tile(&self, range: Range<usize>) -> Result<TileLabels, OutOfRange> {
        let mut tile = TileLabels::default();
        self.read_any_tile(range, &mut tile).map(|()| tile)
    }

    /// [`Self::tile`] for rows of which some may be ignored or out of range. Compiled once, not for each instruction
    /// set.
    #[inline(never)]
    fn read_any_tile(&self, range: Range<usize>, to: &mut TileLabels) -> Result<(), OutOfRange> {
        let (mut values, len, classes) = ([0_i64; TILE], range.len(), self.classes as u64);
        self.read(range.clone(), &mut values, |value| value);
        to.class = Column::of(0);
        let (mut active, mut outside) = (0_u64, 0_u64);
        for (i, &value) in values[..len].iter().enumerate() {
            let inside = (value as u64) < classes;
            let is_active = value != self.ignore_index;
            to.class[i] = if inside { value as usize } else { 0 };
            active |= u64::from(is_active) << i;
            outside |= u64::from(is_active && !inside) << i;
        }
        let mask = mask_bits(self.mask.as_ref(), range);
        if outside & mask != 0 {
            return Err(OutOfRange);
        }
        to.active = active & mask;
        Ok(())
    }

    /// Checks all targets, before anything is written.
    pub(crate) fn check(&self, context: Context<'_>) -> Result<(), Error> {
        self.divisor::<f32>(ClassWeights::none(), context).map(|_| ())
    }

    /// The sum of the weights of the active rows; R is the type of their logits. It checks all targets.
    pub(crate) fn divisor<R: Real>(
        &self,
        weight: ClassWeights<'_>,
        context: Context<'_>,
    ) -> Result<f64, Error> {
        let weighted = weight.as_slice().is_some();
        let level = isa::selected()?;
        let state = || (TileLosses::new(), TileLabels::default());
        let sums = try_for_each_chunk_of(context, self.rows(), 1, state, |(tile, labels), rows| {
            let (mut sum, mut active) = (ChunkSum::default(), 0);
            for first in rows.clone().step_by(TILE) {
                let range = first..(first + TILE).min(rows.end);
                dispatch!(level, simd => self.tile(simd, range, labels))?;
                if weighted {
                    tile.begin::<R>(labels.active, true);
                    bits(labels.active).for_each(|i| tile.weight[i] = weight.of(labels.class[i]));
                    dispatch!(level, simd => sum.add::<_, R>(simd, tile));
                } else {
                    active += labels.active.count_ones() as usize;
                }
            }
            sum.add_unweighted(0.0, active);
            Ok::<_, OutOfRange>(sum)
        })?
        .map_err(|rows| self.first_out_of_range(rows))?;
        let mut all = ChunkSum::default();
        for sum in sums {
            all.merge(sum);
        }
        Ok(all.total().weight)
    }

    /// The error that names the first of these rows whose target is out of range.
    pub(crate) fn first_out_of_range(&self, among: Range<usize>) -> Error {
        let rows = self.rows();
        // None where another thread has changed the targets since they were found out of range.
        let row = among.clone().find(|row| self.any_tile(*row..row + 1).is_err());
        let named = row.unwrap_or(among.start);
        Error::TargetOutOfRange {
            index: unravel(named, self.shape),
            value: self.value(named),
            classes: self.classes,
            ignore_index: self.ignore_index,
            found: row.filter(|_| rows <= MOST_CHECKED).map(|_| Box::new(self.found().0)),
        }
    }

    /// The ranges of the class indices, and the first row whose target is out of range.
    pub(super) fn found(&self) -> (TargetsFound, Option<usize>) {
        let (mut inside, mut outside, mut ignored, mut first) = (None, None, false, None);
        let rows = self.rows();
        for tile in (0..rows).step_by(TILE).map(|first| first..(first + TILE).min(rows)) {
            let mask = mask_bits(self.mask.as_ref(), tile.clone());
            let (start, len) = (tile.start, tile.len());
            let mut values = [0_i64; TILE];
            self.read(tile.clone(), &mut values, |value| value);
            let (low, high) =
                values[..len].iter().fold((i64::MAX, i64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
            let usual = low >= 0 && (high as u64) < self.classes as u64;
            if usual && mask == all(len) && !(low..=high).contains(&self.ignore_index) {
                let (low, high) = (i128::from(low), i128::from(high));
                let (least, most) = inside.unwrap_or((low, high));
                inside = Some((low.min(least), high.max(most)));
                continue;
            }
            let mut values = [0_i128; TILE];
            with_dtype!(integers &self.values, rows => read(rows, tile, &mut values, Integer::to_i128));
            for (i, value) in bits(mask).map(|i| (i, values[i])) {
                if value == i128::from(self.ignore_index) {
                    ignored = true;
                    continue;
                }
                let side = if (0..self.classes as i128).contains(&value) {
                    &mut inside
                } else {
                    first = first.or(Some(start + i));
                    &mut outside
                };
                let (low, high) = side.unwrap_or((value, value));
                *side = Some((value.min(low), value.max(high)));
            }
        }
        fn bits_of<I: Integer>(_: &Rows<'_, I>) -> (u32, bool) {
            I::BITS
        }
        let (bits, signed) = with_dtype!(integers &self.values, rows => bits_of(rows));
        (TargetsFound { inside, outside: outside.unwrap_or((0, 0)), ignored, bits, signed }, first)
    }

    fn value(&self, row: usize) -> i128 {
        let mut value = [0];
        with_dtype!(integers &self.values, rows => read(rows, row..row + 1, &mut value, Integer::to_i128));
        value[0]
    }
}
