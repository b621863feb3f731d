//! The gradient and the Hessian of scores, for gradient boosting.

use numpy::PyUntypedArrayMethods;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::array::{self, Array, Float};
use super::call;
use super::result::Output;
use crate::array::any::Floats;
use crate::array::rows::View;
use crate::kernel::element::Element;
use crate::loss::boosting::{Boosting, BoostingHessian};
use crate::loss::target_function::TargetFunction;
use crate::targets::Target;

functions! { softmax_gradient_hessian }

/// The gradient and the diagonal of the Hessian of the sum of the rows' losses. Labels are integers; weights and class
/// weights are float64.
#[pyfunction]
#[pyo3(signature = (raw, y, weight, class_weight, label_smoothing, focal_gamma, hessian, grad_out, hess_out, /))]
#[expect(clippy::too_many_arguments, reason = "the options of an objective")]
pub(super) fn softmax_gradient_hessian<'py>(
    raw: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    weight: Option<&Bound<'py, PyAny>>,
    class_weight: Option<&Bound<'py, PyAny>>,
    label_smoothing: f64,
    focal_gamma: f64,
    hessian: &str,
    grad_out: Option<&Bound<'py, PyAny>>,
    hess_out: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let py = raw.py();
    let class_weight = array::class_weights(class_weight)?;
    let objective = Boosting {
        class_weight: class_weight.as_deref(),
        label_smoothing,
        function: (focal_gamma != 0.0).then_some(TargetFunction::Focal { gamma: focal_gamma }),
        hessian: match hessian {
            "diagonal" => BoostingHessian::Diagonal,
            "lightgbm" => BoostingHessian::LightGbm,
            "xgboost" => BoostingHessian::XgBoost,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "hessian is not understood: got '{hessian}', expected 'lightgbm', 'xgboost' or 'diagonal'"
                )));
            }
        },
    };
    let raw = array::array(raw, "raw")?;
    let scores = array::floats(&raw, "raw")?;
    let float = array::float_dtype(&raw).unwrap_or(Float::F64);
    let gradient = Output::like(grad_out, "grad_out", &raw, float)?;
    let of_hessian = Output::like(hess_out, "hess_out", &raw, float)?;
    for (output, name) in [(&gradient, "grad_out"), (&of_hessian, "hess_out")] {
        output.check_apart(&raw, [name, "raw"])?;
    }
    gradient.check_apart(of_hessian.array(), ["grad_out", "hess_out"])?;
    let apart = |argument, name| of_hessian.apart(gradient.apart(array::array(argument, name)?)?);
    let y = apart(y, "y")?;
    let weight = weight.map(|weight| apart(weight, "weight")).transpose()?;
    let arguments = Arguments {
        objective: &objective,
        labels: array::target(&y)?,
        weight: weight.as_ref().map(double).transpose()?,
        gradient: &gradient,
        hessian: &of_hessian,
    };
    // SAFETY: the outputs have the dtype of the scores, and share no memory with each other or with what is read.
    unsafe {
        match &scores {
            Floats::F32(view) => arguments.write(py, view),
            Floats::F64(view) => arguments.write(py, view),
            _ => Err(PyTypeError::new_err(format!(
                "raw must be float32 or float64: got dtype {}; use numpy.asarray(raw, dtype=numpy.float32)",
                raw.dtype()
            ))),
        }
    }?;
    Ok((gradient.into_array(), of_hessian.into_array()))
}

/// A view of float64.
fn double<'a>(weight: &'a Array<'_>) -> PyResult<View<'a, f64>> {
    match array::floats(weight, "weight")? {
        Floats::F64(view) => Ok(view),
        _ => Err(PyTypeError::new_err(format!("weight must be float64: got {}", weight.dtype()))),
    }
}

/// The arguments of a call besides the scores.
struct Arguments<'a, 'py> {
    objective: &'a Boosting<'a>,
    labels: Target<'a>,
    weight: Option<View<'a, f64>>,
    gradient: &'a Output<'py>,
    hessian: &'a Output<'py>,
}

impl Arguments<'_, '_> {
    /// # Safety
    /// As for [`Output::view_mut`].
    unsafe fn write<E: Element>(self, py: Python<'_>, scores: &View<'_, E>) -> PyResult<()> {
        let Arguments { objective, labels, weight, gradient, hessian } = self;
        let untouched = gradient.untouched && hessian.untouched;
        // SAFETY: see above.
        let (gradient, hessian) = unsafe { (gradient.view_mut::<E>(), hessian.view_mut::<E>()) };
        call::run(py, scores.len().max(labels.shape().iter().product()), move |context| {
            let context = crate::Context { untouched, ..context };
            objective.write(scores, &labels, weight.as_ref(), gradient, hessian, context)
        })
    }
}
