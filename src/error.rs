//! Everything that can be wrong with a call.

use std::fmt;

/// Why a call was refused. Nothing has been written when it is returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// An axis that the array does not have.
    AxisOutOfRange {
        /// As given.
        axis: isize,
        /// Dimensions of the array.
        ndim: usize,
    },
    /// The input has too few dimensions for a loss.
    TooFewDimensions,
    /// The target's shape fits neither class indices nor class probabilities.
    TargetShape {
        /// Of the input.
        input: Vec<usize>,
        /// The class axis, counted from the front.
        axis: usize,
        /// Of the target.
        target: Vec<usize>,
        /// Whether the target holds floating-point numbers.
        floating: bool,
    },
    /// Another argument's shape is not the one required.
    Shape {
        /// The argument.
        name: &'static str,
        /// As given.
        got: Vec<usize>,
        /// As required.
        expected: Vec<usize>,
    },
    /// An argument cannot be repeated to the input's shape.
    Broadcast {
        /// The argument.
        name: &'static str,
        /// As given.
        got: Vec<usize>,
        /// Of the input.
        input: Vec<usize>,
    },
    /// The variances do not fit the input.
    VarianceShape {
        /// As given.
        got: Vec<usize>,
        /// Of the input.
        input: Vec<usize>,
    },
    /// An element of an argument is out of range.
    Element {
        /// What is wrong.
        problem: &'static str,
        /// The argument.
        name: &'static str,
        /// Of the first such element.
        index: Vec<usize>,
        /// The element.
        value: f64,
        /// What was expected, and what may help.
        expected: &'static str,
    },
    /// An option is out of range.
    Option {
        /// The option.
        name: &'static str,
        /// As given.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// The class weights are not one for each class.
    WeightLength {
        /// As given.
        got: usize,
        /// Classes.
        classes: usize,
    },
    /// `label_smoothing` outside [0, 1].
    LabelSmoothing(f64),
    /// `ignore_index` >= 0 with class probabilities.
    IgnoreIndexWithProbabilities(i64),
    /// `nll_loss` takes class indices only.
    ProbabilitiesNotSupported,
    /// A function of class indices got a floating target.
    FloatingTarget {
        /// The function.
        function: &'static str,
    },
    /// A class index that is neither a class nor ignored.
    TargetOutOfRange {
        /// The first row, as an index into the target.
        index: Vec<usize>,
        /// The class index.
        value: i128,
        /// Classes.
        classes: usize,
        /// The index that would have been ignored.
        ignore_index: i64,
    },
    /// `CROSSENT_ISA` names an unknown or absent level.
    UnknownIsa {
        /// As given.
        name: String,
        /// The levels of this machine.
        available: Vec<&'static str>,
    },
    /// `CROSSENT_NUM_THREADS` is not a number of threads.
    NumThreads(String),
    /// A working copy would not fit into memory.
    OutOfMemory {
        /// Numbers it would hold.
        count: usize,
    },
    /// The caller's interrupt check said stop.
    Interrupted,
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
            Error::TooFewDimensions => write!(
                f,
                "input has no class axis: got a 0-dimensional array, expected (C,), (N, C) or (N, C, d1, ..., dk)"
            ),
            Error::TargetShape { input, axis, target, floating } => {
                let mut rows = input.clone();
                rows.remove(*axis);
                write!(
                    f,
                    "target does not fit the input: got target of shape {}, expected {} (class indices) for an input of \
                     shape {} with classes along axis {axis}, or {} in a floating dtype (class probabilities)",
                    shape(target),
                    shape(&rows),
                    shape(input),
                    shape(input),
                )?;
                if *floating && *target == rows {
                    write!(f, "; class indices must have an integer dtype: use target.astype(numpy.int64)")?;
                } else if !floating && target == input {
                    write!(
                        f,
                        "; class probabilities must have a floating dtype: use target.astype(numpy.float32)"
                    )?;
                } else if target.iter().product::<usize>() == rows.iter().product::<usize>() {
                    write!(
                        f,
                        "; the number of elements fits: reshape the target, or name the class axis with axis="
                    )?;
                }
                Ok(())
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
            Error::WeightLength { got, classes } => write!(
                f,
                "weight must hold one number for each class: got {got}, expected {classes}; is the class axis right (axis=)?"
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
                "ignore_index has no meaning for class probabilities: got {got}, expected the default; to leave rows out, use where="
            ),
            Error::ProbabilitiesNotSupported => write!(
                f,
                "nll_loss takes class indices: got a floating target, expected an integer dtype; for class probabilities use cross_entropy"
            ),
            Error::FloatingTarget { function } => write!(
                f,
                "{function} takes class indices: got a floating target, expected an integer dtype; use target.astype(numpy.int64), \
                 or target.argmax of the class axis for class probabilities"
            ),
            Error::TargetOutOfRange { index, value, classes, ignore_index } => {
                let fix = if i64::try_from(*value).is_ok() {
                    format!("pass ignore_index={value}")
                } else {
                    "use where=".to_owned()
                };
                let range =
                    classes.checked_sub(1).map_or("no class".to_owned(), |last| format!("0 to {last}"));
                write!(
                    f,
                    "Target {value} is out of bounds: got target[{}] = {value}, expected {range} ({classes} classes) or \
                     ignore_index = {ignore_index}; padding or a special id? {fix} to leave such rows out",
                    position(index),
                )
            }
            Error::UnknownIsa { name, available } => write!(
                f,
                "CROSSENT_ISA names no instruction set of this machine: got '{name}', expected one of {}; unset it to use the best",
                available.join(", ")
            ),
            Error::NumThreads(text) => write!(
                f,
                "CROSSENT_NUM_THREADS is not a number of threads: got \"{text}\", expected 1 to {}",
                crate::parallel::MAX_THREADS
            ),
            Error::OutOfMemory { count } => {
                write!(f, "not enough memory: {count} numbers of 8 bytes are needed besides the arguments")
            }
            Error::Interrupted => write!(f, "interrupted"),
        }
    }
}

/// A number as Python takes it, with an exponent where it would be long without.
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
pub(crate) fn filled(count: usize, value: f64) -> Result<Vec<f64>, Error> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { count })?;
    numbers.resize(count, value);
    Ok(numbers)
}

/// An index as Python takes it between brackets.
fn position(index: &[usize]) -> String {
    let index: Vec<String> = index.iter().map(ToString::to_string).collect();
    if index.is_empty() { "()".to_owned() } else { index.join(", ") }
}

/// A shape as Python prints it.
fn shape(dims: &[usize]) -> String {
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
        let error = Error::TargetOutOfRange { index: vec![3], value: 7, classes: 5, ignore_index: -100 };
        let text = error.to_string();
        for part in ["target[3] = 7", "0 to 4", "5 classes", "ignore_index = -100"] {
            assert!(text.contains(part), "{text}");
        }
        let error = Error::TargetShape { input: vec![4, 3], axis: 1, target: vec![3], floating: false };
        assert!(error.to_string().contains("expected (4,) (class indices)"), "{error}");
        for (value, text) in [(1e300, "got 1e300,"), (-2e-9, "got -2e-9,"), (f64::NEG_INFINITY, "got -inf,")]
        {
            let error = Error::LabelSmoothing(value).to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
