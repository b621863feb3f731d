//! What the rows are scored against: class indices of any integer dtype, or class probabilities.

mod active;
mod indices;
mod probabilities;
mod walk;

use ndarray::{ArrayBase, ArrayRef, ArrayView, Data, Dimension, arr0};

use self::active::first_active;
pub(crate) use self::active::{ActiveRows, mask_bits};
use self::indices::MOST_CHECKED;
#[cfg(test)]
use self::indices::OutOfRange;
pub(crate) use self::indices::{Labels, TileLabels};
pub(crate) use self::probabilities::Probabilities;
pub(crate) use self::walk::{TileWork, Walk};
use crate::array::any::{Any, Integer, Numbers, with_dtype};
use crate::array::rows::{Rows, View, is_row_shape, row_shape};
use crate::error::{Error, Held, HeldNumbers, TargetsFound};
use crate::kernel::element::Element;
use crate::parallel::Context;

/// Class indices of any integer type, or class probabilities, as the caller holds them.
pub type Target<'a> = Numbers<'a>;

impl Target<'_> {
    /// What the target holds, for the text of an error.
    fn held(&self, input: &[usize], axis: usize) -> Held {
        let few = self.shape().iter().try_fold(1_usize, |all, n| all.checked_mul(*n)) <= Some(MOST_CHECKED);
        let axis = (self.shape() == input).then_some(axis);
        let row = axis.map(|axis| input[axis]);
        let numbers = few.then(|| match &self.0 {
            Any::Floats(array) => {
                with_dtype!(floats array, array => held(&mut numbers(array, axis, |x| x.to_f64()), row))
            }
            Any::Integers(array) => {
                with_dtype!(integers array, array => held(&mut numbers(array, axis, |x| x.to_f64()), row))
            }
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

/// The numbers of an array, those along `axis` one after the other.
fn numbers<T>(
    array: &View<'_, T>,
    axis: Option<usize>,
    number: impl Fn(&T) -> f64,
) -> impl Iterator<Item = f64> {
    let mut array = array.clone();
    if let Some(axis) = axis {
        let last = array.ndim() - 1;
        array.swap_axes(axis, last);
    }
    array.into_iter().map(number)
}

/// What the numbers of an array are; `row` is the length of its rows where it has the input's shape.
fn held(numbers: &mut dyn Iterator<Item = f64>, row: Option<usize>) -> HeldNumbers {
    let (mut smallest, mut largest, mut whole, mut nan) = (f64::INFINITY, f64::NEG_INFINITY, true, false);
    let (mut at, mut sum, mut sums_to_1) = (0, 0.0, row.is_some());
    for x in numbers {
        if x.is_nan() {
            nan = true;
        } else {
            smallest = smallest.min(x);
            largest = largest.max(x);
            whole &= x.fract() == 0.0;
        }
        (at, sum) = (at + 1, sum + x);
        if Some(at) == row {
            sums_to_1 &= sum == 1.0;
            (at, sum) = (0, 0.0);
        }
    }
    let one_hot = sums_to_1 && !nan && whole && smallest == 0.0 && largest == 1.0;
    HeldNumbers { smallest, largest, whole, nan, one_hot }
}

/// A mask of rows, of the target's shape: false, or 0, leaves a row out. Made by `From` or `into` from arrays,
/// references and views of any dimension that hold `bool` or `u8`.
#[derive(Clone, Debug)]
pub struct Mask<'a>(pub(crate) View<'a, u8>);

impl<'a, D: Dimension> From<ArrayView<'a, u8, D>> for Mask<'a> {
    fn from(view: ArrayView<'a, u8, D>) -> Self {
        Mask(view.into_dyn())
    }
}

impl<'a, D: Dimension> From<ArrayView<'a, bool, D>> for Mask<'a> {
    fn from(view: ArrayView<'a, bool, D>) -> Self {
        // SAFETY: a bool is a byte, 0 or 1, and the view borrows them for as long.
        unsafe { view.raw_view().cast::<u8>().deref_into_view().into() }
    }
}

macro_rules! masks {
    ($($t:ident)+) => {$(
        impl<'a, S: Data<Elem = $t>, D: Dimension> From<&'a ArrayBase<S, D, $t>> for Mask<'a> {
            fn from(array: &'a ArrayBase<S, D, $t>) -> Self {
                array.view().into()
            }
        }

        impl<'a, D: Dimension> From<&'a ArrayRef<$t, D>> for Mask<'a> {
            fn from(array: &'a ArrayRef<$t, D>) -> Self {
                array.view().into()
            }
        }
    )+};
}
masks! { bool u8 }

/// A mask of rows, and the threads and the interrupt of a call.
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::{Call, ClassLoss, Context, CrossEntropy};
///
/// let (logits, target) = (array![[2.0_f32, -1.0], [0.0, 3.0]], array![0_i64, 1]);
/// let first = array![true, false];
/// let call = Call::new().mask(&first).context(Context::new().threads(1));
/// assert_eq!(CrossEntropy::new().total(&logits, &target, &call)?.counted, 1);
/// # Ok::<(), crossent::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Call<'a> {
    pub(crate) mask: Option<View<'a, u8>>,
    /// The threads and the interrupt.
    pub context: Context<'a>,
}

impl<'a> Call<'a> {
    /// The defaults: no mask, and as many threads as [`num_threads`](crate::num_threads) returns.
    #[must_use]
    pub fn new() -> Self {
        Call::default()
    }

    /// Leaves out the rows for which the mask, of the target's shape, is false or 0.
    #[must_use]
    pub fn mask(self, mask: impl Into<Mask<'a>>) -> Self {
        Call { mask: Some(mask.into().0), ..self }
    }

    /// Sets the threads and the interrupt.
    #[must_use]
    pub fn context(self, context: Context<'a>) -> Self {
        Call { context, ..self }
    }
}

/// Targets that fit their input.
pub(crate) enum Targets<'a> {
    Indices(Labels<'a>),
    Probabilities(Probabilities<'a>),
}

impl<'a> Targets<'a> {
    /// Checks the shapes of the target and of the mask, which leaves rows out.
    pub(crate) fn new(
        target: &'a Target<'_>,
        input_shape: &[usize],
        axis: usize,
        ignore_index: i64,
        mask: Option<&'a View<'_, u8>>,
    ) -> Result<Self, Error> {
        let fits = |shape: &[usize]| is_row_shape(shape, input_shape, axis);
        // torch also takes a (C,) input with a target of shape (1,).
        let fitting = match &target.0 {
            Any::Integers(_) => fits(target.shape()) || input_shape.len() == 1 && target.shape() == [1],
            Any::Floats(_) => target.shape() == input_shape,
        };
        if !fitting {
            return Err(Error::TargetShape {
                input: input_shape.to_vec(),
                axis,
                target: target.shape().to_vec(),
                held: Box::new(target.held(input_shape, axis)),
            });
        }
        if let Some(mask) = mask
            && !fits(mask.shape())
            && (target.is_floating() || mask.shape() != target.shape())
        {
            let expected = row_shape(input_shape, axis);
            return Err(Error::Shape { name: "mask", got: mask.shape().to_vec(), expected });
        }
        let mask = mask.map(|mask| Rows::new(mask, None));
        match &target.0 {
            Any::Integers(values) => Ok(Targets::Indices(Labels {
                values: with_dtype!(map integers values, view => Rows::new(view, None)),
                mask,
                shape: target.shape(),
                classes: input_shape[axis],
                ignore_index,
            })),
            Any::Floats(_) if ignore_index >= 0 => Err(Error::IgnoreIndexWithProbabilities(ignore_index)),
            Any::Floats(values) => Ok(Targets::Probabilities(Probabilities {
                values: with_dtype!(map floats values, view => Rows::new(view, Some(axis))),
                mask,
                rows: row_shape(input_shape, axis).iter().product(),
            })),
        }
    }
}

/// The class indices of rows, whose values are not checked yet.
pub(crate) fn labels<'a>(
    function: &'static str,
    target: &'a Target<'_>,
    shape: &[usize],
    axis: usize,
    ignore_index: i64,
    call: &'a Call<'_>,
) -> Result<Labels<'a>, Error> {
    if target.is_floating() {
        return Err(target.refused_as_floating(function, shape, axis));
    }
    let targets = Targets::new(target, shape, axis, ignore_index, call.mask.as_ref())?;
    let Targets::Indices(labels) = targets else {
        return Err(target.refused_as_floating(function, shape, axis));
    };
    Ok(labels)
}

/// The ranges of class indices for `classes` classes, and the number of the first, in C order, that is neither a class
/// nor ignored. It checks indices before their rows are there. Where none is out of range, `outside` is (0, 0).
///
/// ```
/// use crossent::ndarray::array;
/// use crossent::targets_found;
///
/// let (found, first) = targets_found(&array![-100, 3, 9, 7], 8, -100)?;
/// assert_eq!((found.inside, found.outside, found.ignored, first), (Some((3, 7)), (9, 9), true, Some(2)));
/// # Ok::<(), crossent::Error>(())
/// ```
///
/// # Errors
/// [`Error::FloatingTarget`] for class probabilities.
pub fn targets_found<'t>(
    target: impl Into<Target<'t>>,
    classes: usize,
    ignore_index: i64,
) -> Result<(TargetsFound, Option<usize>), Error> {
    let target = target.into();
    let mut shape = target.shape().to_vec();
    shape.push(classes);
    let axis = shape.len() - 1;
    Ok(labels("targets_found", &target, &shape, axis, ignore_index, &Call::new())?.found())
}

/// Runs `work` with the target and the index to ignore; where there is no target, with one of class 0 for every row, of
/// which none is ignored.
pub(crate) fn with_any_target<T>(
    target: Option<&Target<'_>>,
    ignore_index: i64,
    shape: &[usize],
    axis: usize,
    work: impl FnOnce(&Target<'_>, i64) -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(target) = target {
        return work(target, ignore_index);
    }
    let zero = arr0(0_i64);
    let zeros = zero.broadcast(row_shape(shape, axis)).ok_or(Error::TooFewDimensions)?;
    work(&Target::from(zeros), -100)
}

impl Targets<'_> {
    /// Some of the first rows: among them an active one, if there is any nearby.
    pub(crate) fn first_active(&self, wanted: usize) -> ActiveRows {
        match self {
            Targets::Indices(labels) => labels.first_active(wanted),
            Targets::Probabilities(p) => first_active(p.rows, wanted, |rows| Some(p.active(rows))),
        }
    }

    /// Whether every row is left out.
    pub(crate) fn nothing_active(&self, context: Context<'_>) -> Result<bool, Error> {
        match self {
            Targets::Indices(labels) => labels.nothing_active(context),
            Targets::Probabilities(p) => p.nothing_active(context),
        }
    }
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
        let tile = labels(&Target::from(a.view()), -100).unwrap();
        assert_eq!(tile.active, 0b101);
        assert_eq!((tile.class[0], tile.class[2]), (1, 4));
    }

    #[test]
    fn the_first_row_out_of_range_is_named() {
        let a = arr1(&[1_i8, 5, 7]).into_dyn();
        match labels(&Target::from(a.view()), -100) {
            Err(Error::TargetOutOfRange { index, value, .. }) => assert_eq!((index, value), (vec![1], 5)),
            _ => panic!("accepted"),
        }
    }

    #[test]
    fn huge_unsigned_targets_are_neither_classes_nor_ignored() {
        for ignore_index in [-100, -1, -2, i64::MAX, i64::MIN] {
            let a = arr1(&[u64::MAX - 3]).into_dyn();
            assert!(labels(&Target::from(a.view()), ignore_index).is_err());
        }
    }

    #[test]
    fn small_unsigned_targets_do_not_wrap() {
        let a = arr1(&[156_u8]).into_dyn();
        assert!(labels(&Target::from(a.view()), -100).is_err());
        assert_eq!(labels(&Target::from(a.view()), 156).unwrap().active, 0);
    }

    #[test]
    fn shapes_that_fit_neither_kind_are_refused() {
        let f = Array::<f32, _>::zeros((3, 4)).into_dyn();
        let i = Array::<i64, _>::zeros((3, 5)).into_dyn();
        assert!(Targets::new(&Target::from(f.view()), &[3, 5], 1, -100, None).is_err());
        assert!(Targets::new(&Target::from(i.view()), &[3, 5], 1, -100, None).is_err());
        assert!(matches!(
            Targets::new(&Target::from(f.view()), &[3, 4], 1, 0, None),
            Err(Error::IgnoreIndexWithProbabilities(0))
        ));
    }
}
