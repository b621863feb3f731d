//! What the rows are scored against: class indices of any integer dtype, or class probabilities.

use std::num::NonZero;
use std::ops::Range;

use fearless_simd::{Simd, dispatch};
use fearless_simd_macros::simd;
use half::{bf16, f16};
use ndarray::Axis;

use crate::error::{Error, Held, HeldNumbers, TargetsFound};
use crate::kernel::element::{Element, widen_slice};
use crate::kernel::gap::row_gap;
use crate::kernel::narrow::{last_rows, pack_rows};
use crate::kernel::{NARROW, TILE, isa, real};
use crate::loss::TileLosses;
use crate::options::ClassWeights;
use crate::parallel::{Context, for_each_range, try_for_each_range};
use crate::reduce::GrainSum;
use crate::rows::{Rows, View, is_row_shape, row_shape, unravel};
use crate::tiles::{all, bits, locate};

/// Class indices or class probabilities, as the caller holds them.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "one variant for each dtype, named after it")]
pub enum Target<'a> {
    I8(View<'a, i8>),
    I16(View<'a, i16>),
    I32(View<'a, i32>),
    I64(View<'a, i64>),
    U8(View<'a, u8>),
    U16(View<'a, u16>),
    U32(View<'a, u32>),
    U64(View<'a, u64>),
    F16(View<'a, f16>),
    Bf16(View<'a, bf16>),
    F32(View<'a, f32>),
    F64(View<'a, f64>),
}

/// Runs one generic expression on whichever array a [`Target`] or one of its relatives holds.
macro_rules! each {
    ($kind:ident, $value:expr, [$($variant:ident)+], $array:pat => $result:expr) => {
        match $value { $($kind::$variant($array) => $result,)+ }
    };
    ($kind:ident, $value:expr, $([$($variant:ident)+], $array:pat => $result:expr),+) => {
        match $value { $($($kind::$variant($array) => $result,)+)+ }
    };
}

impl Target<'_> {
    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        each!(Target, self, [I8 I16 I32 I64 U8 U16 U32 U64 F16 Bf16 F32 F64], array => array.shape())
    }

    /// Whether it holds floating-point numbers.
    #[must_use]
    pub fn is_floating(&self) -> bool {
        matches!(self, Target::F16(_) | Target::Bf16(_) | Target::F32(_) | Target::F64(_))
    }

    /// The name of its dtype.
    fn dtype(&self) -> &'static str {
        match self {
            Target::I8(_) => "int8",
            Target::I16(_) => "int16",
            Target::I32(_) => "int32",
            Target::I64(_) => "int64",
            Target::U8(_) => "uint8",
            Target::U16(_) => "uint16",
            Target::U32(_) => "uint32",
            Target::U64(_) => "uint64",
            Target::F16(_) => "float16",
            Target::Bf16(_) => "bfloat16",
            Target::F32(_) => "float32",
            Target::F64(_) => "float64",
        }
    }

    /// What it holds, for an error that says so.
    fn held(&self, input: &[usize], axis: usize) -> Held {
        let few = self.shape().iter().try_fold(1_usize, |all, n| all.checked_mul(*n)) <= Some(MOST_LOOKED_AT);
        let axis = (self.shape() == input).then_some(axis);
        let numbers = few.then(|| {
            each!(Target, self, [I8 I16 I32 I64 U8 U16 U32 U64], array => held(array, axis, |x| *x as f64),
                [F16 Bf16 F32 F64], array => held(array, axis, |x| x.to_f64()))
        });
        Held { dtype: self.dtype(), floating: self.is_floating(), numbers }
    }

    /// The error of a function that takes class indices only.
    pub(crate) fn refused_as_floating(&self, function: &'static str, input: &[usize], axis: usize) -> Error {
        Error::FloatingTarget {
            function,
            input: input.to_vec(),
            axis,
            target: self.shape().to_vec(),
            held: Box::new(self.held(input, axis)),
        }
    }
}

/// More numbers than these are not looked at for the text of an error.
const MOST_LOOKED_AT: usize = 1 << 26;

/// What an array holds; `axis` is that of the classes where it has the input's shape.
fn held<T>(array: &View<'_, T>, axis: Option<usize>, number: impl Fn(&T) -> f64) -> HeldNumbers {
    let mut all = HeldNumbers {
        smallest: f64::INFINITY,
        largest: f64::NEG_INFINITY,
        whole: true,
        nan: false,
        one_hot: false,
    };
    for x in array {
        let x = number(x);
        if x.is_nan() {
            all.nan = true;
        } else {
            all.smallest = all.smallest.min(x);
            all.largest = all.largest.max(x);
            all.whole &= x.fract() == 0.0;
        }
    }
    let bits = !all.nan && all.whole && all.smallest == 0.0 && all.largest == 1.0;
    all.one_hot = axis.is_some_and(|axis| {
        bits && array.lanes(Axis(axis)).into_iter().all(|row| row.iter().map(&number).sum::<f64>() == 1.0)
    });
    all
}

/// Targets that fit their input.
#[derive(Clone, Debug)]
pub(crate) enum Targets<'a> {
    Indices(Labels<'a>),
    Probabilities(Probabilities<'a>),
}

impl<'a> Targets<'a> {
    /// `mask` is the `where` of the public functions.
    pub(crate) fn new(
        target: &'a Target<'_>,
        input_shape: &[usize],
        axis: usize,
        ignore_index: i64,
        mask: Option<&'a View<'_, u8>>,
    ) -> Result<Self, Error> {
        let classes = input_shape[axis];
        let fits = |shape: &[usize]| is_row_shape(shape, input_shape, axis);
        // torch also takes a (C,) input with a target of shape (1,).
        let indices = !target.is_floating()
            && (fits(target.shape()) || input_shape.len() == 1 && target.shape() == [1]);
        let probabilities = target.is_floating() && target.shape() == input_shape;
        if !indices && !probabilities {
            return Err(Error::TargetShape {
                input: input_shape.to_vec(),
                axis,
                target: target.shape().to_vec(),
                held: Box::new(target.held(input_shape, axis)),
            });
        }
        if let Some(mask) = mask
            && !fits(mask.shape())
            && !(indices && mask.shape() == target.shape())
        {
            let expected = row_shape(input_shape, axis);
            return Err(Error::Shape { name: "where", got: mask.shape().to_vec(), expected });
        }
        let mask = mask.map(|mask| Rows::new(mask, None));
        if indices {
            let values = match target {
                Target::I8(a) => Indices::I8(Rows::new(a, None)),
                Target::I16(a) => Indices::I16(Rows::new(a, None)),
                Target::I32(a) => Indices::I32(Rows::new(a, None)),
                Target::I64(a) => Indices::I64(Rows::new(a, None)),
                Target::U8(a) => Indices::U8(Rows::new(a, None)),
                Target::U16(a) => Indices::U16(Rows::new(a, None)),
                Target::U32(a) => Indices::U32(Rows::new(a, None)),
                Target::U64(a) => Indices::U64(Rows::new(a, None)),
                _ => unreachable!("floating targets are probabilities"),
            };
            return Ok(Targets::Indices(Labels {
                values,
                mask,
                shape: target.shape(),
                classes,
                ignore_index,
            }));
        }
        if ignore_index >= 0 {
            return Err(Error::IgnoreIndexWithProbabilities(ignore_index));
        }
        let values = match target {
            Target::F16(a) => Floats::F16(Rows::new(a, Some(axis))),
            Target::Bf16(a) => Floats::Bf16(Rows::new(a, Some(axis))),
            Target::F32(a) => Floats::F32(Rows::new(a, Some(axis))),
            Target::F64(a) => Floats::F64(Rows::new(a, Some(axis))),
            _ => unreachable!("integer targets are indices"),
        };
        let rows = row_shape(input_shape, axis).iter().product();
        Ok(Targets::Probabilities(Probabilities { values, mask, rows }))
    }
}

#[derive(Clone, Debug)]
enum Indices<'a> {
    I8(Rows<'a, i8>),
    I16(Rows<'a, i16>),
    I32(Rows<'a, i32>),
    I64(Rows<'a, i64>),
    U8(Rows<'a, u8>),
    U16(Rows<'a, u16>),
    U32(Rows<'a, u32>),
    U64(Rows<'a, u64>),
}

/// Class indices, one for each row. Each is checked where it is used.
#[derive(Clone, Debug)]
pub(crate) struct Labels<'a> {
    values: Indices<'a>,
    mask: Option<Rows<'a, u8>>,
    shape: &'a [usize],
    classes: usize,
    ignore_index: i64,
}

/// The classes of a tile's rows, and a bit for each row that counts.
pub(crate) struct TileLabels {
    pub class: [usize; TILE],
    pub counted: u64,
}

impl Default for TileLabels {
    fn default() -> Self {
        TileLabels { class: [0; TILE], counted: 0 }
    }
}

/// A row's target is neither a class nor ignored.
pub(crate) struct OutOfRange;

/// Rows that follow each other, and a bit for each of them that counts.
pub(crate) struct Counted {
    pub start: usize,
    pub bits: u64,
}

/// The rows among which the first that count are looked for: those of a prompt or of padding may come before them.
const MOST_BEFORE: usize = 1 << 14;

/// The first `wanted` of `rows` rows if one of them counts, else as many of the first tile in which one does.
fn first_counted(rows: usize, wanted: usize, counted: impl Fn(Range<usize>) -> Option<u64>) -> Counted {
    let first = counted(0..wanted.min(rows));
    let mut found = Counted { start: 0, bits: first.unwrap_or(0) };
    if first != Some(0) {
        return found;
    }
    for start in (0..rows.min(MOST_BEFORE)).step_by(TILE) {
        match counted(start..(start + TILE).min(rows)) {
            Some(0) => {}
            Some(mut all) => {
                found.start = start;
                for _ in 0..wanted {
                    found.bits |= all & all.wrapping_neg();
                    all &= all.wrapping_sub(1);
                }
                return found;
            }
            None => return found,
        }
    }
    found
}

impl Targets<'_> {
    /// Some of the first rows, of which one counts if there is any nearby.
    pub(crate) fn first_counted(&self, wanted: usize) -> Counted {
        match self {
            Targets::Indices(labels) => labels.first_counted(wanted),
            Targets::Probabilities(p) => first_counted(p.rows, wanted, |rows| Some(p.counted(rows))),
        }
    }

    /// Whether every row is left out.
    pub(crate) fn nothing_counted(&self, context: Context<'_>) -> Result<bool, Error> {
        match self {
            Targets::Indices(labels) => labels.nothing_counted(context),
            Targets::Probabilities(p) => p.nothing_counted(context),
        }
    }
}

/// Tile by tile, whether something holds for all `rows` rows.
fn all_tiles(
    rows: usize,
    context: Context<'_>,
    holds: impl Fn(Range<usize>) -> bool + Sync,
) -> Result<bool, Error> {
    let work = |(): &mut (), rows: Range<usize>| {
        let mut tiles = rows.clone().step_by(TILE).map(|first| first..(first + TILE).min(rows.end));
        if tiles.all(&holds) { Ok(()) } else { Err(()) }
    };
    Ok(try_for_each_range(context, rows, 1, || (), work)?.is_ok())
}

/// The same on the calling thread alone: for what the first tile nearly always decides.
fn all_tiles_here(
    rows: usize,
    context: Context<'_>,
    holds: impl Fn(Range<usize>) -> bool + Sync,
) -> Result<bool, Error> {
    all_tiles(rows, Context { threads: Some(NonZero::<usize>::MIN), ..context }, holds)
}

impl Labels<'_> {
    /// Some of the first rows, of which one counts if there is any nearby; none where one is out of range.
    pub(crate) fn first_counted(&self, wanted: usize) -> Counted {
        first_counted(self.rows(), wanted, |rows| self.any_tile(rows).ok().map(|tile| tile.counted))
    }

    /// Whether every row is left out. A row whose target is out of range is not.
    pub(crate) fn nothing_counted(&self, context: Context<'_>) -> Result<bool, Error> {
        let none = |tile| self.any_tile(tile).is_ok_and(|tile| tile.counted == 0);
        all_tiles_here(self.rows(), context, none)
    }

    /// Whether something holds for the classes of all rows that count.
    pub(crate) fn all_classes(
        &self,
        holds: impl Fn(usize) -> bool + Sync,
        context: Context<'_>,
    ) -> Result<bool, Error> {
        let all =
            |tile| self.any_tile(tile).is_ok_and(|tile| bits(tile.counted).all(|i| holds(tile.class[i])));
        all_tiles(self.rows(), context, all)
    }

    fn rows(&self) -> usize {
        self.shape.iter().product()
    }

    /// The class indices of the rows of `range`. What int64 cannot hold becomes a number that is neither a class
    /// nor ignored.
    #[inline(always)]
    #[expect(
        clippy::unnecessary_fallible_conversions,
        clippy::useless_conversion,
        reason = "one expression for all dtypes, of which uint64 alone can fail"
    )]
    fn read(&self, range: Range<usize>, to: &mut [i64; TILE]) {
        let beyond = if self.ignore_index == -1 { -2 } else { -1 };
        each!(Indices, &self.values, [I8 I16 I32 I64 U8 U16 U32 U64], rows => {
            read(rows, range, to, |x| x.try_into().unwrap_or(beyond));
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
        self.read_tile(range, to)
    }

    fn any_tile(&self, range: Range<usize>) -> Result<TileLabels, OutOfRange> {
        let mut tile = TileLabels::default();
        self.read_tile(range, &mut tile).map(|()| tile)
    }

    #[inline(always)]
    fn read_tile(&self, range: Range<usize>, to: &mut TileLabels) -> Result<(), OutOfRange> {
        let mut values = [0_i64; TILE];
        let len = range.len();
        self.read(range.clone(), &mut values);
        // Negative numbers are huge as unsigned ones.
        let classes = self.classes as u64;
        if !(0..self.classes as i64).contains(&self.ignore_index) {
            // The usual tile: every row has a class.
            let outside: u64 = values.iter().map(|value| u64::from(*value as u64 >= classes)).sum();
            if outside == 0 {
                let counted = mask_bits(self.mask.as_ref(), range);
                for (class, value) in to.class.iter_mut().zip(values) {
                    *class = value as usize;
                }
                to.counted = counted;
                return Ok(());
            }
        }
        let (mut counted, mut outside) = (0_u64, 0_u64);
        for (i, &value) in values[..len].iter().enumerate() {
            let inside = (value as u64) < classes;
            let counts = value != self.ignore_index;
            to.class[i] = if inside { value as usize } else { 0 };
            counted |= u64::from(counts) << i;
            outside |= u64::from(counts && !inside) << i;
        }
        let mask = mask_bits(self.mask.as_ref(), range);
        if outside & mask != 0 {
            return Err(OutOfRange);
        }
        to.counted = counted & mask;
        Ok(())
    }

    /// Looks at all targets before anything is written.
    pub(crate) fn check(&self, context: Context<'_>) -> Result<(), Error> {
        self.divisor::<f32>(ClassWeights::none(), context).map(|_| ())
    }

    /// The sum of the weights of the rows of R that count.
    pub(crate) fn divisor<R: real::Real>(
        &self,
        weight: ClassWeights<'_>,
        context: Context<'_>,
    ) -> Result<f64, Error> {
        let weighted = weight.as_slice().is_some();
        let level = isa::selected()?;
        let state = || (TileLosses::new(), TileLabels::default());
        let sums = try_for_each_range(context, self.rows(), 1, state, |(tile, labels), rows| {
            let mut sum = GrainSum::default();
            for first in rows.clone().step_by(TILE) {
                let range = first..(first + TILE).min(rows.end);
                dispatch!(level, simd => self.tile(simd, range, labels))?;
                tile.begin::<R>(labels.counted, weighted);
                if weighted {
                    bits(labels.counted).for_each(|i| tile.weight[i] = weight.of(labels.class[i]));
                }
                dispatch!(level, simd => sum.add::<_, R>(simd, tile));
            }
            Ok::<_, OutOfRange>(sum)
        })?
        .map_err(|rows| self.first_out_of_range(rows))?;
        let mut all = GrainSum::default();
        for sum in sums {
            all.merge(sum);
        }
        Ok(all.total().weight)
    }

    /// The error that names the first of these rows whose target is out of range.
    pub(crate) fn first_out_of_range(&self, among: Range<usize>) -> Error {
        let rows: usize = self.shape.iter().product();
        // None where another thread has changed the targets since they were found out of range.
        let row = among.clone().find(|row| self.any_tile(*row..row + 1).is_err());
        let named = row.unwrap_or(among.start);
        Error::TargetOutOfRange {
            index: unravel(named, self.shape),
            value: self.value(named),
            classes: self.classes,
            ignore_index: self.ignore_index,
            found: row.filter(|_| rows <= MOST_LOOKED_AT).map(|_| Box::new(self.found(rows))),
        }
    }

    /// What the class indices are.
    fn found(&self, rows: usize) -> TargetsFound {
        let (mut inside, mut outside, mut ignored) = (None, None, false);
        for tile in (0..rows).step_by(TILE).map(|first| first..(first + TILE).min(rows)) {
            let mask = mask_bits(self.mask.as_ref(), tile.clone());
            let mut values = [0_i128; TILE];
            each!(Indices, &self.values, [I8 I16 I32 I64 U8 U16 U32 U64], rows => {
                read(rows, tile, &mut values, i128::from);
            });
            for value in bits(mask).map(|i| values[i]) {
                if value == i128::from(self.ignore_index) {
                    ignored = true;
                    continue;
                }
                let side =
                    if (0..self.classes as i128).contains(&value) { &mut inside } else { &mut outside };
                let (low, high) = side.unwrap_or((value, value));
                *side = Some((value.min(low), value.max(high)));
            }
        }
        let (bits, signed) = match &self.values {
            Indices::I8(_) => (8, true),
            Indices::I16(_) => (16, true),
            Indices::I32(_) => (32, true),
            Indices::I64(_) => (64, true),
            Indices::U8(_) => (8, false),
            Indices::U16(_) => (16, false),
            Indices::U32(_) => (32, false),
            Indices::U64(_) => (64, false),
        };
        TargetsFound { inside, outside: outside.unwrap_or((0, 0)), ignored, bits, signed }
    }

    fn value(&self, row: usize) -> i128 {
        each!(Indices, &self.values, [I8 I16 I32 I64 U8 U16 U32 U64], rows => {
            let mut value = 0_i128;
            rows.layout.line.runs(row..row + 1, |run| value = rows.get(run.offset, 0).into());
            value
        })
    }
}

/// Class probabilities, one distribution for each row.
#[derive(Clone, Debug)]
pub(crate) struct Probabilities<'a> {
    values: Floats<'a>,
    mask: Option<Rows<'a, u8>>,
    rows: usize,
}

#[derive(Clone, Debug)]
enum Floats<'a> {
    F16(Rows<'a, f16>),
    Bf16(Rows<'a, bf16>),
    F32(Rows<'a, f32>),
    F64(Rows<'a, f64>),
}

impl Probabilities<'_> {
    /// A bit for each row of `range` that counts.
    pub(crate) fn counted(&self, range: Range<usize>) -> u64 {
        mask_bits(self.mask.as_ref(), range)
    }

    /// The number of rows, if all of them count.
    pub(crate) fn all_counted(&self) -> Option<usize> {
        self.mask.is_none().then_some(self.rows)
    }

    /// Whether every row is left out.
    fn nothing_counted(&self, context: Context<'_>) -> Result<bool, Error> {
        all_tiles_here(self.rows, context, |tile| self.counted(tile) == 0)
    }

    /// How many rows count.
    pub(crate) fn divisor(&self, context: Context<'_>) -> Result<f64, Error> {
        if let Some(rows) = self.all_counted() {
            return Ok(rows as f64);
        }
        let counts = for_each_range(
            context,
            self.rows,
            1,
            || (),
            |(), rows| {
                let tiles = rows.clone().step_by(TILE).map(|first| first..(first + TILE).min(rows.end));
                tiles.map(|tile| f64::from(self.counted(tile).count_ones())).sum::<f64>()
            },
        )?;
        Ok(counts.into_iter().sum())
    }

    /// The sum over a stretch of one row's classes of p (max - x), for their logits x, and that of p; none where the
    /// probabilities are no slice.
    #[simd]
    pub(crate) fn gap<S: Simd, E: Element>(
        &self,
        simd: S,
        row: usize,
        classes: Range<usize>,
        x: &[E],
        max: f64,
    ) -> Option<(f64, f64)> {
        let mut gap = None;
        each!(Floats, &self.values, [F16 Bf16 F32 F64], rows => {
            rows.layout.line.runs(row..row + 1, #[inline(always)] |run| {
                if rows.layout.contiguous() {
                    let p = rows.classes_of(run.offset, classes.clone());
                    gap = Some(row_gap::<_, _, _, true>(simd, x, p, max));
                }
            });
        });
        gap
    }

    /// The probabilities of a stretch of one row's classes.
    #[simd]
    pub(crate) fn read<S: Simd>(&self, simd: S, row: usize, classes: Range<usize>, to: &mut [f64]) {
        each!(Floats, &self.values, [F16 Bf16 F32 F64], rows => {
            rows.layout.line.runs(row..row + 1, #[inline(always)] |run| {
                if rows.layout.contiguous() {
                    widen_slice(simd, rows.classes_of(run.offset, classes.clone()), to);
                } else {
                    for (to, class) in to.iter_mut().zip(classes.clone()) {
                        *to = rows.get(run.offset, class).to_f64();
                    }
                }
            });
        });
    }

    /// The probabilities of the rows of `range`, at most a tile of short ones, packed as logits are.
    #[simd]
    pub(crate) fn pack<S: Simd>(&self, simd: S, range: Range<usize>, packed: &mut [f64]) {
        each!(Floats, &self.values, [F16 Bf16 F32 F64], rows => pack(simd, rows, range, packed));
    }
}

/// The classes of the rows of `range` as `f64`, packed.
#[inline(always)]
fn pack<S: Simd, P: Element>(simd: S, rows: &Rows<'_, P>, range: Range<usize>, packed: &mut [f64]) {
    // Turned around together: as many as a vector of f64 has lanes.
    const ROWS: usize = 8;
    let classes = rows.layout.classes;
    if rows.layout.contiguous() && classes > 1 {
        let (mut slab, mut last) = ([0.0; ROWS * NARROW], [0.0; last_rows::<f64>(NARROW)]);
        let (mut offsets, mut max) = ([0; TILE], [0.0; TILE]);
        let len = range.len();
        locate(&rows.layout, range, &mut offsets);
        for (i, offsets) in offsets[..len].chunks(ROWS).enumerate() {
            let slab = &mut slab[..offsets.len() * classes];
            for (row, offset) in slab.chunks_exact_mut(classes).zip(offsets) {
                widen_slice(simd, rows.classes_of(*offset, 0..classes), row);
            }
            pack_rows(simd, slab, classes, packed, i * ROWS, &mut last, &mut max);
        }
        return;
    }
    let mut first = 0;
    rows.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            for (class, to) in packed.chunks_exact_mut(TILE).enumerate() {
                let to = &mut to[first..first + run.len];
                if run.stride == 1 {
                    widen_slice(simd, rows.rows_of(run, class), to);
                } else {
                    for (i, to) in to.iter_mut().enumerate() {
                        *to = rows.get(run.offset + i as isize * run.stride, class).to_f64();
                    }
                }
            }
            first += run.len;
        },
    );
}

/// One number of each row of `range`.
#[inline(always)]
pub(crate) fn read<T: Copy, U>(
    rows: &Rows<'_, T>,
    range: Range<usize>,
    to: &mut [U],
    convert: impl Fn(T) -> U,
) {
    let mut at = 0;
    rows.layout.line.runs(
        range,
        #[inline(always)]
        |run| {
            let to = &mut to[at..at + run.len];
            at += run.len;
            if run.stride == 1 {
                for (to, from) in to.iter_mut().zip(rows.rows_of(run, 0)) {
                    *to = convert(*from);
                }
            } else {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = convert(rows.get(run.offset + i as isize * run.stride, 0));
                }
            }
        },
    );
}

fn mask_bits(mask: Option<&Rows<'_, u8>>, range: Range<usize>) -> u64 {
    let len = range.len();
    let all = all(len);
    let Some(mask) = mask else { return all };
    let mut counts = [false; TILE];
    read(mask, range, &mut counts, |x| x != 0);
    counts.iter().enumerate().fold(0, |bits, (i, counts)| bits | u64::from(*counts) << i) & all
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, arr1};

    use super::*;

    fn labels(target: &Target<'_>, ignore_index: i64) -> Result<TileLabels, Error> {
        let rows = target.shape()[0];
        match Targets::new(target, &[rows, 5], 1, ignore_index, None)? {
            Targets::Indices(labels) => {
                labels.any_tile(0..rows).map_err(|OutOfRange| labels.first_out_of_range(0..rows))
            }
            Targets::Probabilities(_) => unreachable!(),
        }
    }

    #[test]
    fn ignored_rows_do_not_count_and_need_not_be_classes() {
        let a = arr1(&[1_i32, -100, 4]).into_dyn();
        let tile = labels(&Target::I32(a.view()), -100).unwrap();
        assert_eq!(tile.counted, 0b101);
        assert_eq!((tile.class[0], tile.class[2]), (1, 4));
    }

    #[test]
    fn the_first_row_out_of_range_is_named() {
        let a = arr1(&[1_i8, 5, 7]).into_dyn();
        match labels(&Target::I8(a.view()), -100) {
            Err(Error::TargetOutOfRange { index, value, .. }) => assert_eq!((index, value), (vec![1], 5)),
            _ => panic!("accepted"),
        }
    }

    #[test]
    fn huge_unsigned_targets_are_neither_classes_nor_ignored() {
        for ignore_index in [-100, -1, -2, i64::MAX, i64::MIN] {
            let a = arr1(&[u64::MAX - 3]).into_dyn();
            assert!(labels(&Target::U64(a.view()), ignore_index).is_err());
        }
    }

    #[test]
    fn small_unsigned_targets_do_not_wrap() {
        let a = arr1(&[156_u8]).into_dyn();
        assert!(labels(&Target::U8(a.view()), -100).is_err());
        assert_eq!(labels(&Target::U8(a.view()), 156).unwrap().counted, 0);
    }

    #[test]
    fn shapes_that_fit_neither_kind_are_refused() {
        let f = Array::<f32, _>::zeros((3, 4)).into_dyn();
        let i = Array::<i64, _>::zeros((3, 5)).into_dyn();
        assert!(Targets::new(&Target::F32(f.view()), &[3, 5], 1, -100, None).is_err());
        assert!(Targets::new(&Target::I64(i.view()), &[3, 5], 1, -100, None).is_err());
        assert!(matches!(
            Targets::new(&Target::F32(f.view()), &[3, 4], 1, 0, None),
            Err(Error::IgnoreIndexWithProbabilities(0))
        ));
    }
}
