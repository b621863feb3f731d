//! The errors of a call, with their texts.

use std::fmt;

/// Why a call failed. Nothing has been written then, unless the call was interrupted.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// An axis that the array does not have.
    AxisOutOfRange {
        /// The axis, as given.
        axis: isize,
        /// The number of dimensions of the array.
        ndim: usize,
    },
    /// An axis that is named twice.
    RepeatedAxis {
        /// The axis, as given the second time.
        axis: isize,
    },
    /// The input has too few dimensions for a loss.
    TooFewDimensions,
    /// The target's shape fits neither class indices nor class probabilities.
    TargetShape {
        /// The shape of the input.
        input: Vec<usize>,
        /// The class axis, counted from the front.
        axis: usize,
        /// The shape of the target.
        target: Vec<usize>,
        /// What the target holds.
        held: Box<Held>,
    },
    /// An argument's shape is not the expected one.
    Shape {
        /// The argument.
        name: &'static str,
        /// The shape, as given.
        got: Vec<usize>,
        /// The expected shape.
        expected: Vec<usize>,
    },
    /// An argument cannot be repeated to the input's shape.
    Broadcast {
        /// The argument.
        name: &'static str,
        /// The shape, as given.
        got: Vec<usize>,
        /// The shape of the input.
        input: Vec<usize>,
    },
    /// The variances do not fit the input.
    VarianceShape {
        /// The shape, as given.
        got: Vec<usize>,
        /// The shape of the input.
        input: Vec<usize>,
    },
    /// An element of an argument is out of range.
    Element {
        /// What is wrong.
        problem: &'static str,
        /// The argument.
        name: &'static str,
        /// The index of the first such element.
        index: Vec<usize>,
        /// The element.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// An option is out of range.
    Option {
        /// The option.
        name: &'static str,
        /// The value, as given.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// The class weights are not one for each class.
    WeightLength {
        /// The number of weights, as given.
        got: usize,
        /// The shape of the input.
        input: Vec<usize>,
        /// The class axis, counted from the front.
        axis: usize,
    },
    /// `label_smoothing` outside [0, 1].
    LabelSmoothing(f64),
    /// `ignore_index` >= 0 with class probabilities.
    IgnoreIndexWithProbabilities(i64),
    /// A function of class indices got a floating target.
    FloatingTarget {
        /// The function.
        function: &'static str,
        /// The shape of the input.
        input: Vec<usize>,
        /// The class axis, counted from the front.
        axis: usize,
        /// The shape of the target.
        target: Vec<usize>,
        /// What the target holds.
        held: Box<Held>,
    },
    /// A class index that is neither a class nor ignored.
    TargetOutOfRange {
        /// The first row, as an index into the target.
        index: Vec<usize>,
        /// The class index.
        value: i128,
        /// The number of classes.
        classes: usize,
        /// The index that would have been ignored.
        ignore_index: i64,
        /// What the targets are; none where there are too many to check.
        found: Option<Box<TargetsFound>>,
    },
    /// A class of a teacher that the input does not have.
    TeacherClass {
        /// Its place among the teacher's classes.
        index: Vec<usize>,
        /// The class.
        value: i128,
        /// The number of classes of the input.
        classes: usize,
    },
    /// `CROSSENT_ISA` names an instruction set that does not exist or that this machine lacks.
    UnknownIsa {
        /// The name, as given.
        name: String,
        /// The instruction sets of this machine.
        available: Vec<&'static str>,
    },
    /// `CROSSENT_NUM_THREADS` is not a number of threads.
    NumThreads {
        /// The text, as given.
        text: String,
        /// The largest number that is allowed.
        most: usize,
    },
    /// A result or a working copy does not fit into memory.
    OutOfMemory {
        /// The number of its elements.
        count: usize,
        /// Bytes of an element.
        size: usize,
    },
    /// The caller's interrupt stopped the call.
    Interrupted,
}

/// What a refused target holds, as far as it shows what was meant.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Held {
    /// The name of its elements' type, as in Rust.
    pub dtype: &'static str,
    /// Whether the type is a floating-point type.
    pub floating: bool,
    /// What its numbers are; none where there are too many to check.
    pub numbers: Option<HeldNumbers>,
}

/// What the numbers of a refused target are.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeldNumbers {
    /// The smallest number but for nan; infinity where there is none.
    pub smallest: f64,
    /// The largest number but for nan; minus infinity where there is none.
    pub largest: f64,
    /// Whether all numbers are whole, but for nan.
    pub whole: bool,
    /// Whether a number is nan.
    pub nan: bool,
    /// Whether the target has the input's shape, and a single 1 beside zeros in each row.
    pub one_hot: bool,
}

/// The class indices of the active rows, of which at least one is out of range.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TargetsFound {
    /// The smallest and the largest of the indices that are classes; none where no index is one.
    pub inside: Option<(i128, i128)>,
    /// The smallest and the largest of the indices that are neither classes nor ignored.
    pub outside: (i128, i128),
    /// Whether some row has the index that is ignored.
    pub ignored: bool,
    /// Bits of the type of the indices.
    pub bits: u32,
    /// Whether the type of the indices is signed.
    pub signed: bool,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    #[expect(clippy::too_many_lines, reason = "one text for each error")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::AxisOutOfRange { axis, ndim } => write!(
                f,
                "axis is out of range: got {axis}, expected {} for an array of {ndim} dimension{}",
                if *ndim == 0 {
                    "-1 or 0".to_owned()
                } else {
                    format!("{} to {}", -(*ndim as isize), ndim - 1)
                },
                if *ndim == 1 { "" } else { "s" },
            ),
            Error::RepeatedAxis { axis } => write!(f, "an axis is named twice: got {axis} again"),
            Error::TooFewDimensions => write!(
                f,
                "input has no class axis: got a 0-dimensional array, expected (C,), (N, C) or (N, C, d1, ..., dk)"
            ),
            Error::TargetShape { input, axis, target, held } => {
                let rows = without(input, *axis);
                if held.floating && *target == rows {
                    write!(
                        f,
                        "target must hold integers, as class indices: got dtype {} and shape {}, one number for each row",
                        held.dtype,
                        shape(target)
                    )
                } else if !held.floating && target == input {
                    write!(
                        f,
                        "target is neither of class indices nor of class probabilities: got dtype {} and shape {}, \
                         expected integers of shape {}, or floating numbers of shape {}",
                        held.dtype,
                        shape(target),
                        shape(&rows),
                        shape(input)
                    )
                } else {
                    write!(
                        f,
                        "target does not fit the input: got target of shape {}, expected {} (class indices) for an input \
                         of shape {} with classes along axis {axis}, or {} in a floating dtype (class probabilities)",
                        shape(target),
                        shape(&rows),
                        shape(input),
                        shape(input),
                    )
                }
            }
            Error::Shape { name, got, expected } => {
                write!(f, "{name} has the wrong shape: got {}, expected {}", shape(got), shape(expected))
            }
            Error::Broadcast { name, got, input } => write!(
                f,
                "{name} does not fit the input: got {}, expected {} or a shape that broadcasts to it",
                shape(got),
                shape(input)
            ),
            Error::VarianceShape { got, input } => write!(
                f,
                "var is of incorrect size: got {}, expected one number, or {} with or without the last dimension, or with 1 \
                 in the place of one",
                shape(got),
                shape(input)
            ),
            Error::Element { problem, name, index, value, expected } => {
                write!(
                    f,
                    "{problem}: got {name}[{}] = {}, expected {expected}",
                    position(index),
                    number(*value)
                )
            }
            Error::Option { name, value, expected } => {
                write!(f, "{name} is out of range: got {}, expected {expected}", number(*value))
            }
            Error::WeightLength { got, input, axis } => write!(
                f,
                "weight must hold one number for each class: got {got}, expected {}, the length of the input's axis {axis}",
                input[*axis]
            ),
            Error::LabelSmoothing(got) => {
                write!(
                    f,
                    "label_smoothing is out of range: got {}, expected a number from 0.0 to 1.0",
                    number(*got)
                )
            }
            Error::IgnoreIndexWithProbabilities(got) => write!(
                f,
                "ignore_index has no meaning for class probabilities: got {got}, expected the default"
            ),
            Error::FloatingTarget { function, target, held, .. } => write!(
                f,
                "{function} takes class indices: got a target of dtype {} and shape {}, expected an integer dtype",
                held.dtype,
                shape(target)
            ),
            Error::TargetOutOfRange { index, value, classes, ignore_index, .. } => write!(
                f,
                "Target {value} is out of bounds: got target[{}] = {value}, expected {} or ignore_index = \
                 {ignore_index}",
                position(index),
                range(*classes),
            ),
            Error::TeacherClass { index, value, classes } => write!(
                f,
                "a teacher's class is out of bounds: got teacher_ids[{}] = {value}, expected {}",
                position(index),
                range(*classes),
            ),
            Error::UnknownIsa { name, available } => write!(
                f,
                "CROSSENT_ISA names no instruction set of this machine: got '{name}', expected one of {}; unset it to use the best",
                available.join(", ")
            ),
            Error::NumThreads { text, most } => write!(
                f,
                "CROSSENT_NUM_THREADS is not a number of threads: got \"{text}\", expected 1 to {most}"
            ),
            Error::OutOfMemory { count, size } => {
                write!(
                    f,
                    "not enough memory: {count} numbers of {size} bytes are needed besides the arguments"
                )
            }
            Error::Interrupted => write!(f, "interrupted"),
        }
    }
}

/// The text of a number: with an exponent where it would be long without.
fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "nan".to_owned()
    } else if size.is_infinite() || size == 0.0 || (1e-4..1e16).contains(&size) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// A vector of `count` numbers, if there is memory for it.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn filled<T: Copy>(count: usize, value: T) -> Result<Vec<T>, Error> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { count, size: size_of::<T>() })?;
    numbers.resize(count, value);
    Ok(numbers)
}

/// The classes of an input.
fn range(classes: usize) -> String {
    match classes {
        0 => "no class (0 classes)".to_owned(),
        1 => "0 (1 class)".to_owned(),
        _ => format!("0 to {} ({classes} classes)", classes - 1),
    }
}

/// The text of an index between brackets.
pub(crate) fn position(index: &[usize]) -> String {
    let index: Vec<String> = index.iter().map(ToString::to_string).collect();
    if index.is_empty() { "()".to_owned() } else { index.join(", ") }
}

/// A shape without one of its axes.
fn without(dims: &[usize], axis: usize) -> Vec<usize> {
    let mut rest = dims.to_vec();
    rest.remove(axis);
    rest
}

/// The text of a shape, as a Python tuple.
pub(crate) fn shape(dims: &[usize]) -> String {
    match dims {
        [one] => format!("({one},)"),
        _ => format!("({})", dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_was_given_and_what_was_expected() {
        let error =
            Error::TargetOutOfRange { index: vec![3], value: 7, classes: 5, ignore_index: -100, found: None };
        let text = error.to_string();
        for part in ["target[3] = 7", "0 to 4", "5 classes", "ignore_index = -100"] {
            assert!(text.contains(part), "{text}");
        }
        let held = Box::new(Held { dtype: "i64", floating: false, numbers: None });
        let error = Error::TargetShape { input: vec![4, 3], axis: 1, target: vec![3], held };
        assert!(error.to_string().contains("expected (4,) (class indices)"), "{error}");
        for (value, text) in [(1e300, "got 1e300,"), (-2e-9, "got -2e-9,"), (f64::NEG_INFINITY, "got -inf,")]
        {
            let error = Error::LabelSmoothing(value).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
