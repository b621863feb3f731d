//! Arrays of any dtype: the one list of dtypes, and the one `match` over them.
//!
//! [`Floats`] and [`Integers`] have a variant for each dtype, whatever it is that they hold of it: a view, rows, an
//! output. [`Numbers`] and [`FloatsMut`] are how callers hand arrays in.

use std::fmt;

use half::{bf16, f16};
use ndarray::{ArrayBase, ArrayRef, ArrayView, ArrayViewMut, Data, DataMut, Dimension, IxDyn};

use super::rows::{Rows, RowsMut, View, ViewMut};
use crate::kernel::element::Element;

/// One of the floating dtypes, with what is held of it.
#[derive(Clone, Debug)]
pub(crate) enum Floats<F16, Bf16, F32, F64> {
    F16(F16),
    Bf16(Bf16),
    F32(F32),
    F64(F64),
}

/// One of the integer dtypes, with what is held of it.
#[derive(Clone, Debug)]
pub(crate) enum Integers<I8, I16, I32, I64, U8, U16, U32, U64> {
    I8(I8),
    I16(I16),
    I32(I32),
    I64(I64),
    U8(U8),
    U16(U16),
    U32(U32),
    U64(U64),
}

/// A floating or an integer dtype, with what is held of it.
#[derive(Clone, Debug)]
pub(crate) enum Any<F, I> {
    Floats(F),
    Integers(I),
}

/// A type for each of the floating dtypes.
macro_rules! floats_of {
    ($holder:ident) => { Floats<$holder<'a, f16>, $holder<'a, bf16>, $holder<'a, f32>, $holder<'a, f64>> };
}

/// A type for each of the integer dtypes.
macro_rules! integers_of {
    ($holder:ident) => {
        Integers<
            $holder<'a, i8>, $holder<'a, i16>, $holder<'a, i32>, $holder<'a, i64>,
            $holder<'a, u8>, $holder<'a, u16>, $holder<'a, u32>, $holder<'a, u64>,
        >
    };
}

pub(crate) type FloatViews<'a> = floats_of!(View);
pub(crate) type FloatViewsMut<'a> = floats_of!(ViewMut);
pub(crate) type FloatRows<'a> = floats_of!(Rows);
pub(crate) type FloatRowsMut<'a> = floats_of!(RowsMut);
pub(crate) type IntegerViews<'a> = integers_of!(View);
pub(crate) type IntegerRows<'a> = integers_of!(Rows);

/// Runs an expression on what is held, whatever its dtype; `map` wraps the result in the variant of the same dtype.
macro_rules! with_dtype {
    (floats $value:expr, $held:pat => $result:expr) => {
        with_dtype!(@ Floats [F16 Bf16 F32 F64] $value, $held => $result)
    };
    (integers $value:expr, $held:pat => $result:expr) => {
        with_dtype!(@ Integers [I8 I16 I32 I64 U8 U16 U32 U64] $value, $held => $result)
    };
    (any $value:expr, $held:pat => $result:expr) => {
        match $value {
            $crate::array::any::Any::Floats(held) => with_dtype!(floats held, $held => $result),
            $crate::array::any::Any::Integers(held) => with_dtype!(integers held, $held => $result),
        }
    };
    (map floats $value:expr, $held:pat => $result:expr) => {
        with_dtype!(@map Floats [F16 Bf16 F32 F64] $value, $held => $result)
    };
    (map integers $value:expr, $held:pat => $result:expr) => {
        with_dtype!(@map Integers [I8 I16 I32 I64 U8 U16 U32 U64] $value, $held => $result)
    };
    (map any $value:expr, $held:pat => $result:expr) => {
        match $value {
            $crate::array::any::Any::Floats(held) => {
                $crate::array::any::Any::Floats(with_dtype!(map floats held, $held => $result))
            }
            $crate::array::any::Any::Integers(held) => {
                $crate::array::any::Any::Integers(with_dtype!(map integers held, $held => $result))
            }
        }
    };
    (@ $kind:ident [$($dtype:ident)+] $value:expr, $held:pat => $result:expr) => {
        match $value { $($crate::array::any::$kind::$dtype($held) => $result,)+ }
    };
    (@map $kind:ident [$($dtype:ident)+] $value:expr, $held:pat => $result:expr) => {
        match $value { $($crate::array::any::$kind::$dtype($held) => $crate::array::any::$kind::$dtype($result),)+ }
    };
}
pub(crate) use with_dtype;

/// An integer that is stored.
pub(crate) trait Integer: Copy + Send + Sync + 'static {
    /// The type's name.
    const NAME: &'static str;
    /// Its bits, and whether it has a sign.
    const BITS: (u32, bool);

    fn to_f64(self) -> f64;
    fn to_f32(self) -> f32;
    /// None where it is no `i64`.
    fn to_i64(self) -> Option<i64>;
    fn to_i128(self) -> i128;
}

/// From an array, or a reference to one, as from a view of it.
macro_rules! from_array {
    ($t:ident) => {
        impl<'a, S: Data<Elem = $t>, D: Dimension> From<&'a ArrayBase<S, D, $t>> for Numbers<'a> {
            fn from(array: &'a ArrayBase<S, D, $t>) -> Self {
                array.view().into()
            }
        }

        impl<'a, D: Dimension> From<&'a ArrayRef<$t, D>> for Numbers<'a> {
            fn from(array: &'a ArrayRef<$t, D>) -> Self {
                array.view().into()
            }
        }
    };
}

macro_rules! integers {
    ($($dtype:ident $t:ident $signed:literal)+) => {$(
        impl Integer for $t {
            const NAME: &'static str = stringify!($t);
            const BITS: (u32, bool) = (<$t>::BITS, $signed);

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }

            #[inline(always)]
            fn to_i64(self) -> Option<i64> {
                self.try_into().ok()
            }

            #[inline(always)]
            fn to_i128(self) -> i128 {
                self.into()
            }
        }

        impl<'a, D: Dimension> From<ArrayView<'a, $t, D>> for Numbers<'a> {
            fn from(view: ArrayView<'a, $t, D>) -> Self {
                Numbers(Any::Integers(Integers::$dtype(view.into_dyn())))
            }
        }

        from_array!($t);
    )+};
}
integers! {
    I8 i8 true
    I16 i16 true
    I32 i32 true
    I64 i64 true
    U8 u8 false
    U16 u16 false
    U32 u32 false
    U64 u64 false
}

/// A view of an array of numbers of any type: class indices, class probabilities, weights, variances.
///
/// Made by `From` or `into` from arrays, references and views of any dimension that hold an integer type or `f16`,
/// `bf16`, `f32` or `f64`. Functions that take `impl Into<Numbers>` take all of these.
///
/// ```
/// use crossent::Numbers;
/// use crossent::ndarray::array;
///
/// let classes = array![2_u8, 0, 1];
/// assert_eq!(Numbers::from(&classes).dtype(), "u8");
/// assert_eq!(Numbers::from(classes.view()).shape(), [3]);
/// ```
#[derive(Clone)]
pub struct Numbers<'a>(pub(crate) Any<FloatViews<'a>, IntegerViews<'a>>);

macro_rules! word_sized {
    ($($t:ident as $narrow:ident or $wide:ident)+) => {$(
        impl<'a, D: Dimension> From<ArrayView<'a, $t, D>> for Numbers<'a> {
            fn from(view: ArrayView<'a, $t, D>) -> Self {
                let view = view.into_dyn();
                let raw = view.raw_view();
                // SAFETY: the two types have one size and one representation on this platform, and the view borrows
                // them for as long.
                unsafe {
                    if size_of::<$t>() == size_of::<$wide>() {
                        raw.cast::<$wide>().deref_into_view().into()
                    } else {
                        raw.cast::<$narrow>().deref_into_view().into()
                    }
                }
            }
        }

        from_array!($t);
    )+};
}
word_sized! {
    usize as u32 or u64
    isize as i32 or i64
}

impl fmt::Debug for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbers({} {:?})", self.dtype(), self.shape())
    }
}

impl<'a> From<&'a Numbers<'_>> for Numbers<'a> {
    fn from(numbers: &'a Numbers<'_>) -> Self {
        Numbers(with_dtype!(map any &numbers.0, view => view.view()))
    }
}

/// The name of the type of a view's elements.
fn float_name<E: Element>(_: &View<'_, E>) -> &'static str {
    E::NAME
}

fn integer_name<I: Integer>(_: &View<'_, I>) -> &'static str {
    I::NAME
}

impl<'a> Numbers<'a> {
    /// The shape of the array.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        with_dtype!(any &self.0, view => view.shape())
    }

    /// The name of the type of the elements, as in Rust.
    #[must_use]
    pub fn dtype(&self) -> &'static str {
        match &self.0 {
            Any::Floats(held) => with_dtype!(floats held, view => float_name(view)),
            Any::Integers(held) => with_dtype!(integers held, view => integer_name(view)),
        }
    }

    /// Whether the elements are floating-point numbers.
    #[must_use]
    pub fn is_floating(&self) -> bool {
        matches!(self.0, Any::Floats(_))
    }

    /// The numbers repeated to a larger shape, as a view; none if they do not fit it.
    pub(crate) fn broadcast<'s>(&'s self, shape: &[usize]) -> Option<Numbers<'s>>
    where
        'a: 's,
    {
        Some(Numbers(with_dtype!(map any &self.0, view => view.broadcast(shape)?)))
    }

    /// The numbers with their dimensions in another order, as a view.
    pub(crate) fn permuted(self, order: &[usize]) -> Self {
        let order = IxDyn(order);
        Numbers(with_dtype!(map any self.0, view => view.permuted_axes(order.clone())))
    }

    /// The numbers of all dimensions but the last, repeated along it, as a view; none if they do not fit the shape.
    pub(crate) fn along_last_axis<'s>(&'s self, shape: &[usize]) -> Option<Numbers<'s>>
    where
        'a: 's,
    {
        // A new first axis moved to the end.
        let (last, others) = shape.split_last()?;
        let turned: Vec<usize> = [*last].iter().chain(others).copied().collect();
        let order: Vec<usize> = (1..shape.len()).chain([0]).collect();
        let turn = IxDyn(&order);
        Some(Numbers(with_dtype!(map any &self.0, view => {
            view.broadcast(turned.as_slice())?.permuted_axes(turn.clone())
        })))
    }
}

/// A view of an array of floating-point numbers that is written. Made by `From` or `into` from `&mut` arrays and from
/// mutable views, of any dimension.
///
/// ```
/// use crossent::FloatsMut;
/// use crossent::ndarray::Array2;
///
/// let mut losses = Array2::<f32>::zeros((2, 3));
/// assert_eq!(FloatsMut::from(&mut losses).shape(), [2, 3]);
/// ```
pub struct FloatsMut<'a>(pub(crate) FloatViewsMut<'a>);

macro_rules! floats {
    ($($dtype:ident $t:ident)+) => {$(
        impl<'a, D: Dimension> From<ArrayView<'a, $t, D>> for Numbers<'a> {
            fn from(view: ArrayView<'a, $t, D>) -> Self {
                Numbers(Any::Floats(Floats::$dtype(view.into_dyn())))
            }
        }

        from_array!($t);

        impl<'a, D: Dimension> From<ArrayViewMut<'a, $t, D>> for FloatsMut<'a> {
            fn from(view: ArrayViewMut<'a, $t, D>) -> Self {
                FloatsMut(Floats::$dtype(view.into_dyn()))
            }
        }

        impl<'a, S: DataMut<Elem = $t>, D: Dimension> From<&'a mut ArrayBase<S, D, $t>> for FloatsMut<'a> {
            fn from(array: &'a mut ArrayBase<S, D, $t>) -> Self {
                array.view_mut().into()
            }
        }

        impl<'a, D: Dimension> From<&'a mut ArrayRef<$t, D>> for FloatsMut<'a> {
            fn from(array: &'a mut ArrayRef<$t, D>) -> Self {
                array.view_mut().into()
            }
        }
    )+};
}
floats! {
    F16 f16
    Bf16 bf16
    F32 f32
    F64 f64
}

impl fmt::Debug for FloatsMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FloatsMut({:?})", self.shape())
    }
}

impl FloatsMut<'_> {
    /// A view of the same array, with a shorter lifetime.
    pub(crate) fn reborrow(&mut self) -> FloatsMut<'_> {
        FloatsMut(with_dtype!(map floats &mut self.0, view => view.view_mut()))
    }

    /// The shape of the array.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        with_dtype!(floats &self.0, view => view.shape())
    }
}
