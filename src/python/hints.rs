//! Hints: what to do about an error, appended to its text.
//!
//! A hint is given only where the arguments show what was meant: following it gives the number that was meant, or
//! another error, but never another number. It uses NumPy's functions, not methods, so that it holds for lists and
//! tensors as well as for arrays.

use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::array::{self, Array};
use crate::array::rows::{is_row_shape, row_shape};
use crate::error::{Error, Held, HeldNumbers, TargetsFound, shape};

functions! { out_of_range_hint shape_hint }

/// An error with the names that its arguments, functions and dtypes have in Python.
pub(super) fn in_python(mut error: Error) -> Error {
    match &mut error {
        Error::Shape { name, .. } | Error::Broadcast { name, .. } => *name = argument(name),
        Error::TargetShape { held, .. } => held.dtype = dtype(held.dtype),
        Error::FloatingTarget { function, held, .. } => {
            held.dtype = dtype(held.dtype);
            *function = match *function {
                "compare_sums" => "compare",
                "temperature_sums" => "fit_temperature",
                other => other,
            };
        }
        _ => {}
    }
    error
}

fn argument(name: &'static str) -> &'static str {
    match name {
        "mask" => "where",
        "other" => "other_logits",
        "upstream" => "grad_output",
        "gradient" => "grad_out",
        "class" => "y_true",
        other => other,
    }
}

fn dtype(name: &'static str) -> &'static str {
    match name {
        "f16" => "float16",
        "bf16" => "bfloat16",
        "f32" => "float32",
        "f64" => "float64",
        "i8" => "int8",
        "i16" => "int16",
        "i32" => "int32",
        "i64" => "int64",
        "u8" => "uint8",
        "u16" => "uint16",
        "u32" => "uint32",
        "u64" => "uint64",
        other => other,
    }
}

/// What to do about an error from [`in_python`], if that is known.
pub(super) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::TargetShape { input, axis, target, held } => target_shape(input, *axis, target, held, true),
        Error::FloatingTarget { function, input, axis, target, held } => {
            floating_target(function, input, *axis, target, held)
        }
        Error::TargetOutOfRange { value, classes, ignore_index, found, .. } => {
            Some(out_of_range(*value, *classes, *ignore_index, found.as_deref(), Words::Python))
        }
        Error::WeightLength { got, input, axis } => weight_length(*got, input, *axis),
        Error::IgnoreIndexWithProbabilities(_) => Some("to leave rows out, use where=".to_owned()),
        Error::Element { name, value, .. } => element(name, *value).map(str::to_owned),
        Error::Shape {
            name: name @ ("target" | "where" | "other_logits" | "grad_output"),
            got,
            expected,
        } => rearranged(name, got, expected).map(|hint| {
            if *name == "other_logits" {
                // Either may be the one that is meant, and the class axis belongs to both.
                "one of logits and other_logits looks transposed: rearrange that whose classes do not lie along the class \
                 axis (axis=)"
                    .to_owned()
            } else {
                hint
            }
        }),
        Error::Broadcast { name, got, input } => {
            rearranged(name, got, input).or_else(|| one_axis(name, got, input))
        }
        _ => None,
    }
}

// Elements

/// A number that is out of range by no more than this may be so by rounding.
const ROUNDING: f64 = 1e-3;

/// What to do about an element that is no probability, or no variance.
fn element(name: &str, value: f64) -> Option<&'static str> {
    let rounded = (-ROUNDING..=1.0 + ROUNDING).contains(&value);
    Some(match (name, value) {
        ("var", v) if v > -ROUNDING => "a rounding? use numpy.maximum(var, 0)",
        ("var", _) => "is it the logarithm of a variance? use numpy.exp(var)",
        ("input" | "target", nan) if nan.is_nan() => "find out where nan comes from",
        ("input", _) if rounded => "a rounding? use numpy.clip(input, 0, 1)",
        ("input", _) => "are these logits? use binary_cross_entropy_with_logits",
        ("target", _) if rounded => "a rounding? use numpy.clip(target, 0, 1)",
        ("target", -1.0) => {
            "labels of -1 and 1? replace -1 by 0; does -1 mark a missing label? give it a weight of 0, and any target from 0 \
             to 1"
        }
        ("target", 255.0) => "an image of 0 and 255? divide it by 255",
        ("target", p) if p.fract() != 0.0 => "the input comes first, and the target second",
        ("target", _) => "are these class indices? use cross_entropy",
        _ => return None,
    })
}

// Shapes

/// How to give an array another shape with each element in its place.
pub(super) fn rearranged(name: &str, got: &[usize], expected: &[usize]) -> Option<String> {
    if got == expected || got.contains(&0) {
        return None;
    }
    let (ours, theirs) = (without_ones(got), without_ones(expected));
    if ours == theirs {
        return Some(format!("use {}", refolded(name, got, expected)));
    }
    if let Some(orders) = orders(got, expected) {
        let array = format!("numpy.asarray({name})");
        return Some(format!("{name} looks transposed: {}", transposed(name, &array, got, &orders)));
    }
    if got.len() > ours.len()
        && expected.len() == theirs.len()
        && let Some(orders) = orders(&ours, expected)
    {
        let squeezed = format!("numpy.asarray({name}).squeeze()");
        return Some(format!("{name} looks transposed: {}", transposed(name, &squeezed, &ours, &orders)));
    }
    let whole: usize = expected.iter().product();
    if got.iter().product::<usize>() != whole {
        return None;
    }
    if is_flattened(expected, got) {
        return Some(format!(
            "if it was flattened from that shape in C order, as by .reshape(-1), use numpy.reshape({name}, {})",
            shape(expected)
        ));
    }
    is_flattened(got, expected).then(|| {
        format!(
            "if the input was flattened from such a shape in C order, as by .reshape(-1, ...), flatten {name} too: \
             numpy.reshape({name}, {})",
            shape(expected)
        )
    })
}

/// The expression that takes off, or puts in, axes of length 1.
fn refolded(name: &str, got: &[usize], expected: &[usize]) -> String {
    let mut left = expected.iter().peekable();
    let mut dropped = Vec::new();
    for (axis, n) in got.iter().enumerate() {
        if left.next_if_eq(&n).is_none() {
            dropped.push(axis);
        }
    }
    match dropped.as_slice() {
        // The dropped axes have length 1, and the others are those expected.
        [axis] if left.peek().is_none() => format!("numpy.squeeze({name}, axis={axis})"),
        [_, ..] if left.peek().is_none() => format!("numpy.squeeze({name}, axis={})", shape(&dropped)),
        _ => format!("numpy.reshape({name}, {})", shape(expected)),
    }
}

fn without_ones(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|n| *n != 1).collect()
}

/// Whether merging neighbouring axes of `long` gives `short`.
fn is_flattened(long: &[usize], short: &[usize]) -> bool {
    let mut left = long.iter();
    short.iter().all(|&n| {
        let mut product = 1_usize;
        while product < n {
            let Some(&m) = left.next() else { return false };
            product = product.saturating_mul(m);
        }
        product == n
    }) && left.all(|m| *m == 1)
}

/// More orders than these are not named.
const MOST_ORDERS: usize = 16;

/// The orders of axes, at most a few, in which `got` has the shape `expected`; none where there is no such order.
fn orders(got: &[usize], expected: &[usize]) -> Option<Vec<Vec<usize>>> {
    fn extend(got: &[usize], expected: &[usize], begun: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
        let Some(n) = expected.get(begun.len()) else {
            found.push(begun.clone());
            return;
        };
        for axis in 0..got.len() {
            if found.len() < MOST_ORDERS && got[axis] == *n && !begun.contains(&axis) {
                begun.push(axis);
                extend(got, expected, begun, found);
                begun.pop();
            }
        }
    }
    let sorted = |dims: &[usize]| {
        let mut dims = dims.to_vec();
        dims.sort_unstable();
        dims
    };
    if sorted(got) != sorted(expected) {
        return None;
    }
    let mut found = Vec::new();
    extend(got, expected, &mut Vec::new(), &mut found);
    Some(found)
}

/// The advice to transpose: by the one order of axes that fits, or by one of several.
fn transposed(name: &str, array: &str, got: &[usize], orders: &[Vec<usize>]) -> String {
    if let [order] = orders {
        return format!("use {}", transposition(array, order));
    }
    let moves: Vec<(usize, usize)> = orders.iter().filter_map(|order| single_move(order)).collect();
    match (moves.as_slice(), orders) {
        ([(from, to)], _) => format!(
            "if one of its axes alone stands elsewhere, use numpy.moveaxis({array}, {from}, {to}); several axes are as \
             long, so its shape {} does not show which",
            shape(got)
        ),
        (_, [first, second]) => format!(
            "use {} or {}, whichever is the order of its axes",
            transposition(array, first),
            transposition(array, second)
        ),
        _ => format!(
            "several of its axes are as long, so its shape does not show how; transpose {name} into the order of the \
             input's axes"
        ),
    }
}

fn transposition(array: &str, order: &[usize]) -> String {
    format!("{array}.transpose{}", shape(order))
}

/// Where an order of axes comes from moving one of them, and it is not the order they have: from where to where.
fn single_move(order: &[usize]) -> Option<(usize, usize)> {
    let n = order.len();
    let moved = |from: usize, to: usize| {
        let mut axes: Vec<usize> = (0..n).filter(|axis| *axis != from).collect();
        axes.insert(to, from);
        axes == order
    };
    (0..n)
        .flat_map(|from| (0..n).map(move |to| (from, to)))
        .find(|(from, to)| from != to && moved(*from, *to))
}

/// How to broadcast what has one number for each position of one axis.
fn one_axis(name: &str, got: &[usize], input: &[usize]) -> Option<String> {
    let [n] = got else { return None };
    let axes: Vec<usize> = (0..input.len()).filter(|axis| input[*axis] == *n).collect();
    let [axis] = axes.as_slice() else { return None };
    let mut broadcastable = vec![1; input.len() - axis];
    broadcastable[0] = *n;
    Some(format!(
        "if it has one number for each position of axis {axis}, use numpy.reshape({name}, {})",
        shape(&broadcastable)
    ))
}

/// The class axes with which an array of this shape would be one of rows.
fn fitting_axes(input: &[usize], axis: usize, got: &[usize]) -> Vec<usize> {
    (0..input.len()).filter(|other| *other != axis && is_row_shape(got, input, *other)).collect()
}

/// "axis=2 (or -1)".
fn named(axis: usize, ndim: usize) -> String {
    if axis + 1 == ndim { format!("axis={axis} (or -1)") } else { format!("axis={axis}") }
}

fn axis_hint(axes: &[usize], ndim: usize) -> Option<String> {
    match axes {
        [] => None,
        [axis] => Some(format!(
            "with {} it would fit: pass that if the classes lie along axis {axis}",
            named(*axis, ndim)
        )),
        axes => {
            let names: Vec<String> = axes.iter().map(|axis| named(*axis, ndim)).collect();
            Some(format!(
                "it would fit with each of {}: pass the one along which the classes lie",
                names.join(", ")
            ))
        }
    }
}

/// The hint for a class axis of one logit, or none.
const ONE_LOGIT: &str = "one logit z for each row of two classes? use binary_cross_entropy_with_logits(z, target), with z \
                         and target of the same shape; or give both classes a logit, 0 and z: \
                         numpy.stack([numpy.zeros_like(z), z], axis=-1), for a z of shape (N,)";

/// What to do about the shape of a target. `probabilities` is whether the function takes class probabilities too.
fn target_shape(
    input: &[usize],
    axis: usize,
    target: &[usize],
    held: &Held,
    probabilities: bool,
) -> Option<String> {
    let rows = row_shape(input, axis);
    let bits = held.numbers.is_some_and(|n| n.whole && !n.nan && n.smallest >= 0.0 && n.largest <= 1.0);
    if (input.len() == 1 || input[axis] == 1) && without_ones(input) == without_ones(target) && bits {
        let one_hot = held.numbers.is_some_and(|n| n.one_hot) && input[axis] > 1;
        let row = if one_hot { "one row, and its target one-hot? use numpy.argmax(target); " } else { "" };
        return Some(format!("{row}{ONE_LOGIT}"));
    }
    if held.floating && without_ones(target) == without_ones(&rows) && is_of_one_class(input[axis], held) {
        return Some(format!(
            "the probability p of the second class in each row? cross_entropy takes those of both classes: \
             numpy.stack([1 - p, p], axis={axis}), for a p of shape {}",
            shape(&rows)
        ));
    }
    if held.floating && target == rows {
        return Some(class_indices(held));
    }
    if held.floating && (0..target.len()).any(|axis| is_row_shape(input, target, axis)) {
        return Some(
            "input and target look swapped: the logits come first, their class indices second".to_owned(),
        );
    }
    if !held.floating && target == input {
        return of_the_inputs_shape(axis, held.numbers);
    }
    if probabilities
        && held.floating
        && let Some(hint) = rearranged("target", target, input)
    {
        return Some(format!(
            "{hint}, if the classes of the input lie along axis {axis}; else name their axis (axis=)"
        ));
    }
    if held.floating && held.numbers.is_some_and(|n| !n.whole) {
        return Some(class_indices(held)).filter(|_| without_ones(target) == without_ones(&rows));
    }
    if !held.floating
        && bits
        && let Some([order]) = orders(target, input).as_deref()
    {
        return Some(format!(
            "if its axis {0} is that of the classes, in one-hot rows, use numpy.argmax(target, axis={0})",
            order[axis]
        ));
    }
    let axes = fitting_axes(input, axis, target);
    let found = [axis_hint(&axes, input.len()), rearranged("target", target, &rows)];
    let mut hint = found.into_iter().flatten().collect::<Vec<_>>().join("; or ");
    if hint.is_empty() {
        return (input.len() == 1 && target.len() == 1).then(|| {
            format!(
                "an input of one axis is a single row of {} classes; rows have the shape (N, C)",
                input[0]
            )
        });
    }
    if held.floating {
        hint = format!("{hint}; {}", class_indices(held));
    }
    Some(hint)
}

/// Whether numbers may be the probability of one of two classes.
fn is_of_one_class(classes: usize, held: &Held) -> bool {
    classes == 2 && held.numbers.is_some_and(|n| !n.whole && !n.nan && n.smallest >= 0.0 && n.largest <= 1.0)
}

/// How floating numbers become class indices.
fn class_indices(held: &Held) -> String {
    let advice = match held.numbers {
        None => "if all of its numbers are whole, use numpy.asarray(target, dtype=numpy.int64)",
        Some(HeldNumbers { whole: true, nan: false, .. }) => "use numpy.asarray(target, dtype=numpy.int64)",
        Some(HeldNumbers { whole: true, .. }) => {
            "nan marks a missing label? give it the ignore_index: numpy.where(numpy.isnan(target), -100, \
             target).astype(numpy.int64)"
        }
        _ => {
            "its numbers are not whole, so they are no class indices; class probabilities have the input's shape"
        }
    };
    advice.to_owned()
}

/// The hint for integers of the input's shape, where class probabilities would fit.
fn of_the_inputs_shape(axis: usize, numbers: Option<HeldNumbers>) -> Option<String> {
    let numbers = numbers?;
    Some(if numbers.one_hot {
        format!("one-hot rows? use numpy.argmax(target, axis={axis})")
    } else if numbers.smallest >= 0.0 && numbers.largest <= 1.0 {
        "one-hot along another axis? name the class axis (axis=); an independent yes or no for each number? use \
         binary_cross_entropy_with_logits"
            .to_owned()
    } else {
        "the input needs a class axis that the target lacks: has it been through argmax?".to_owned()
    })
}

fn floating_target(
    function: &str,
    input: &[usize],
    axis: usize,
    target: &[usize],
    held: &Held,
) -> Option<String> {
    if target == input && input.len() > 1 && input[axis] > 1 {
        return Some(match held.numbers {
            Some(HeldNumbers { one_hot: true, .. }) => {
                format!("one-hot rows? use numpy.argmax(target, axis={axis})")
            }
            _ => format!("class probabilities? cross_entropy takes them, and {function} does not"),
        });
    }
    target_shape(input, axis, target, held, false).or_else(|| Some(class_indices(held)))
}

fn weight_length(got: usize, input: &[usize], axis: usize) -> Option<String> {
    let axes: Vec<usize> = (0..input.len()).filter(|other| *other != axis && input[*other] == got).collect();
    let names: Vec<String> = axes.iter().map(|axis| named(*axis, input.len())).collect();
    let along = match names.as_slice() {
        [] => return None,
        [name] => format!("if the classes lie along the axis of that length, pass {name}"),
        _ => format!("if the classes lie along an axis of that length, pass one of {}", names.join(", ")),
    };
    Some(if axes[0] == 0 {
        format!("{along}; weights of rows? multiply the losses of reduction=\"none\" by them")
    } else {
        along
    })
}

// Class indices

/// The interface whose words a hint uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Python,
    CommandLine,
}

impl Words {
    /// The option that leaves rows with a target out.
    fn ignoring(self, value: i128) -> String {
        match self {
            Words::Python => format!("ignore_index={value}"),
            Words::CommandLine => format!("--ignore-index {value}"),
        }
    }

    /// How to leave out the rows of a target without naming it as the one to ignore.
    fn leaving_out(self, value: i128) -> String {
        match self {
            Words::Python => format!("pass where=numpy.not_equal(target, {value}) to leave such rows out"),
            Words::CommandLine => format!("pass {} to leave such rows out", self.ignoring(value)),
        }
    }

    fn target(self) -> &'static str {
        match self {
            Words::Python => "target",
            Words::CommandLine => "targets",
        }
    }

    /// The advice to use other targets.
    fn instead(self, expression: &str) -> String {
        match self {
            Words::Python => format!("use {expression}"),
            Words::CommandLine => format!("save {expression} instead"),
        }
    }

    /// The advice to add a number to all targets; to those that are ignored too.
    fn added(self, number: i128, ignore_index: i64, found: &TargetsFound) -> String {
        let (sign, size) = if number < 0 { ('-', -number) } else { ('+', number) };
        let ignored_then = i128::from(ignore_index) + number;
        if !found.ignored {
            return self.instead(&format!("{} {sign} {size}", self.target()));
        }
        let signed = if found.signed || ignored_then >= 0 {
            self.target().to_owned()
        } else {
            format!("numpy.asarray({}, dtype=numpy.int64)", self.target())
        };
        let moved = self.instead(&format!("{signed} {sign} {size}"));
        format!("{moved}, with {}, since the ignored ones change too", self.ignoring(ignored_then))
    }
}

/// A model of more classes is likely one of tokens, which are padded with an id next to the vocabulary, and of which a
/// text need not have the first.
const MOST_LABELS: i128 = 1000;

/// What to do about a target that names no class.
pub(super) fn out_of_range(
    value: i128,
    classes: usize,
    ignore_index: i64,
    found: Option<&TargetsFound>,
    words: Words,
) -> String {
    let Some(found) = found else { return special(value, false, words) };
    let (classes, (low, high)) = (classes as i128, found.outside);
    let lowest = found.inside.map_or(low, |(first, _)| first.min(low));
    let highest = found.inside.map_or(high, |(_, last)| last.max(high));
    let target = words.target();
    let added = |number| words.added(number, ignore_index, found);
    if classes == 1 && (low, high) == (1, 1) {
        return match words {
            Words::Python => ONE_LOGIT.to_owned(),
            Words::CommandLine => {
                "one logit z for each row of two classes? save 0 and z as the logits of both: \
                 numpy.concatenate([numpy.zeros_like(z), z], axis=-1) for a z of shape (N, 1)"
                    .to_owned()
            }
        };
    }
    if let Some(hint) = wrapped(classes, ignore_index, found, words) {
        return hint;
    }
    let one = low == high;
    if classes == 1 && one && low > 1 && words == Words::Python {
        return format!(
            "{ONE_LOGIT}, of {} where {low} stands for yes",
            words.instead(&format!("{target} // {low}"))
        );
    }
    if one && low == classes && lowest >= 1 {
        if lowest == 1 && found.inside.is_some() && classes <= MOST_LABELS {
            return format!(
                "the targets go from 1 to {classes}, so the labels seem to be counted from 1: {}",
                added(-1)
            );
        }
        return format!(
            "if the labels are counted from 1, {}; if {low} marks padding, {}",
            added(-1),
            words.leaving_out(low)
        );
    }
    if one && classes == 2 && low == -1 && found.inside == Some((1, 1)) {
        let moved = if found.ignored {
            format!("replace -1 by 0, and keep the ignored {ignore_index}")
        } else {
            words.instead(&format!("({target} + 1) // 2"))
        };
        return format!("labels of -1 and 1? {moved}; if -1 marks padding, {}", words.leaving_out(-1));
    }
    if high < 0 && classes > 1 && highest - lowest == classes - 1 {
        let moved = added(-lowest);
        return if one && low == -1 {
            format!(
                "if the labels are counted from -1, {moved}; if -1 marks padding, {}",
                words.leaving_out(-1)
            )
        } else {
            format!(
                "the targets go from {lowest} to {highest}: if the labels are counted from {lowest}, {moved}"
            )
        };
    }
    if one && classes == 2 && found.inside == Some((0, 0)) && low > 1 {
        return format!(
            "if {low} is the class 1, {}; if it marks rows without a label, {}",
            words.instead(&format!("{target} // {low}")),
            words.leaving_out(low)
        );
    }
    if one {
        return special(low, found.ignored, words);
    }
    if low >= classes {
        return format!(
            "the targets go up to {high}, which takes {} classes: are logits and targets of the same model and \
             vocabulary, and is the class axis right ({})?",
            high + 1,
            if words == Words::Python { "axis=" } else { "--axis" }
        );
    }
    if high < 0 && words == Words::Python {
        return "if every negative number marks rows to leave out, use where=numpy.greater_equal(target, 0)"
            .to_owned();
    }
    format!(
        "the targets go from {lowest} to {highest}; number the classes from 0 on, and give all rows to leave out one \
         number, for {}",
        if words == Words::Python { "ignore_index=" } else { "--ignore-index" }
    )
}

/// The hint for a single number that is not a class, and is not next to one either.
fn special(value: i128, has_ignored: bool, words: Words) -> String {
    // Rows that are ignored already need the index that they have.
    let out = if i64::try_from(value).is_ok() && !(has_ignored && words == Words::Python) {
        format!("pass {} to leave such rows out", words.ignoring(value))
    } else {
        words.leaving_out(value)
    };
    match value {
        255 => format!("255 marks rows without a label? {out}"),
        -100 | -1 => format!("{value} marks padding? {out}"),
        _ if value < 0 => format!("if {value} marks padding or rows without a label, {out}"),
        _ => format!(
            "if {value} marks padding or is a special id without a logit, {out}; if it is a class, the logits are of a \
             model with fewer"
        ),
    }
}

/// The hint for class indices that have wrapped around in a dtype of too few bits.
fn wrapped(classes: i128, ignore_index: i64, found: &TargetsFound, words: Words) -> Option<String> {
    let (low, high) = found.outside;
    let range = 1_i128 << found.bits;
    let (target, bits) = (words.target(), found.bits);
    if found.signed {
        let marker = low == high && (low == -1 || low == -100);
        let are_classes = high < 0 && high + range < classes && !marker;
        return are_classes.then(|| {
            format!(
                "int{bits} does not hold {classes} classes, and {high} is {} there: {}",
                high + range,
                words.instead(&format!("numpy.asarray({target}).view(numpy.uint{bits})"))
            )
        });
    }
    let meant = high - range;
    let wraps = low == high && (meant == -100 || meant == -1 && bits > 8);
    wraps.then(|| {
        let fix = if i64::try_from(high).is_ok() {
            format!("pass {} to leave such rows out", words.ignoring(high))
        } else {
            let signed = words.instead(&format!("numpy.asarray({target}).astype(numpy.int64)"));
            if meant == i128::from(ignore_index) {
                signed
            } else {
                format!("{signed}, with {}", words.ignoring(meant))
            }
        };
        format!("{high} is {meant} in uint{bits}: if that marks padding, {fix}")
    })
}

// Swapped arguments

/// The error for an input of integers with a target of floating numbers, if their shapes fit once they are swapped.
pub(super) fn swapped(input: &Array<'_>, name: &str, target: &Array<'_>) -> Option<PyErr> {
    let integers = matches!(input.dtype().kind(), b'i' | b'u' | b'b');
    array::float_dtype(target)?;
    let (a, b) = (input.shape(), target.shape());
    let looks_so = (0..b.len()).any(|axis| is_row_shape(a, b, axis)) || a == b && holds_bits(input);
    (integers && looks_so).then(|| {
        PyTypeError::new_err(format!(
            "{name} and target look swapped: got {name} of dtype {} and shape {}, target of dtype {} and shape {}, expected the \
             floating numbers of the model first, the targets second",
            input.dtype(),
            array::shape_text(input),
            target.dtype(),
            array::shape_text(target)
        ))
    })
}

/// Raises the error of [`swapped`] where there is one.
pub(super) fn refuse_swapped(input: &Array<'_>, name: &str, target: &Array<'_>) -> PyResult<()> {
    if array::float_dtype(input).is_some() {
        return Ok(());
    }
    swapped(input, name, target).map_or(Ok(()), Err)
}

/// Whether integers are all 0 or 1.
fn holds_bits(array: &Array<'_>) -> bool {
    let within = || -> PyResult<bool> {
        let (low, high) = (array.call_method0("min")?, array.call_method0("max")?);
        Ok(low.ge(0)? && high.le(1)?)
    };
    within().unwrap_or(false)
}

/// What to do about class indices that are out of range, for the command line, which checks them before it reads the
/// logits.
#[pyfunction]
#[pyo3(signature = (value, classes, ignore_index, inside, outside, ignored, dtype_bits, signed, /))]
#[expect(clippy::too_many_arguments, reason = "the fields of an error")]
pub(super) fn out_of_range_hint(
    value: i128,
    classes: usize,
    ignore_index: i64,
    inside: Option<(i128, i128)>,
    outside: (i128, i128),
    ignored: bool,
    dtype_bits: u32,
    signed: bool,
) -> String {
    let found = TargetsFound { inside, outside, ignored, bits: dtype_bits, signed };
    out_of_range(value, classes, ignore_index, Some(&found), Words::CommandLine)
}

/// How an array of one shape becomes one of another, if that is known.
#[pyfunction]
#[pyo3(signature = (name, got, expected, /))]
pub(super) fn shape_hint(name: &str, got: Vec<usize>, expected: Vec<usize>) -> Option<String> {
    rearranged(name, &got, &expected)
}
