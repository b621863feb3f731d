//! The losses, one file each, and the walk over the rows that they share.

pub mod cross_entropy;
pub mod mistakes;
pub mod nll_loss;

use std::ops::Range;

use fearless_simd::{Simd, dispatch};

use crate::error::Error;
use crate::kernel::element::Element;
use crate::kernel::{TILE, isa};
use crate::parallel::{Context, for_each_range};
use crate::reduce::{GrainSum, Total};
use crate::rows::{Rows, RowsMut, View, ViewMut, check_shape};
use crate::targets::OutOfRange;

/// The losses of a tile's rows: those that count, with their weights in the mean. The others have 0.
pub(crate) struct TileLosses {
    pub counted: u64,
    pub loss: [f64; TILE],
    /// Whether `weight` says more than `counted`.
    pub weighted: bool,
    pub weight: [f64; TILE],
}

impl TileLosses {
    pub(crate) fn new() -> Self {
        TileLosses { counted: 0, loss: [0.0; TILE], weighted: false, weight: [0.0; TILE] }
    }

    /// Starts a tile.
    #[inline(always)]
    pub(crate) fn begin(&mut self, counted: u64, weighted: bool) {
        self.counted = counted;
        self.weighted = weighted;
        self.loss = [0.0; TILE];
        if weighted {
            self.weight = [0.0; TILE];
        }
    }
}

/// A loss over rows. `grain` runs on one thread; it hands every tile of its rows to `sink`. It and what it calls are
/// inlined into the function that carries the instruction set, so that labels and sums are compiled with it too.
pub(crate) trait RowLoss: Sync {
    /// What a thread reuses from grain to grain.
    type State;

    fn state(&self) -> Self::State;
    fn rows(&self) -> usize;
    fn classes(&self) -> usize;
    fn grain<S: Simd>(
        &self,
        simd: S,
        state: &mut Self::State,
        rows: Range<usize>,
        sink: impl FnMut(Range<usize>, &TileLosses),
    ) -> Result<(), OutOfRange>;
    /// Looks at all targets.
    fn check(&self, context: Context<'_>) -> Result<(), Error>;
    /// The error behind an [`OutOfRange`].
    fn out_of_range(&self) -> Error;
}

/// The sums over all rows.
pub(crate) fn total<L: RowLoss>(loss: &L, context: Context<'_>) -> Result<Total, Error> {
    let grains = run(loss, context, |_, losses, sum: &mut GrainSum| sum.add(losses))?;
    Ok(Total::of(&grains))
}

/// One loss for each row, to an array of shape `rows`; ignored rows get 0. All targets are checked before the first is
/// written.
pub(crate) fn each_row<L: RowLoss, O: Element>(
    loss: &L,
    rows: &[usize],
    context: Context<'_>,
    mut out: ViewMut<'_, O>,
) -> Result<(), Error> {
    check_shape("out", out.shape(), rows)?;
    loss.check(context)?;
    let out = RowsMut::new(&mut out, None);
    run(loss, context, |rows, losses, (): &mut ()| {
        // SAFETY: the rows of a grain belong to one thread.
        unsafe { out.write(rows, |i| O::from_f64(losses.loss[i])) };
    })?;
    Ok(())
}

fn run<L: RowLoss, T: Default + Send>(
    loss: &L,
    context: Context<'_>,
    sink: impl Fn(Range<usize>, &TileLosses, &mut T) + Sync,
) -> Result<Vec<T>, Error> {
    let level = isa::selected()?;
    let results = for_each_range(
        context,
        loss.rows(),
        loss.classes(),
        || loss.state(),
        |state, rows| {
            let mut result = T::default();
            let add = |tile: Range<usize>, losses: &TileLosses| sink(tile, losses, &mut result);
            dispatch!(level, simd => loss.grain(simd, state, rows, add)).map(|()| result)
        },
    )?;
    results.into_iter().collect::<Result<_, _>>().map_err(|OutOfRange| loss.out_of_range())
}

/// The rows of a loss's input: its class axis resolved, 1 by default and 0 for a single row.
pub(crate) fn input_rows<'a, E: Element>(
    input: &'a View<'_, E>,
    axis: Option<isize>,
) -> Result<(Rows<'a, E>, usize), Error> {
    let ndim = input.ndim();
    if ndim == 0 {
        return Err(Error::TooFewDimensions);
    }
    let axis = crate::rows::resolve_axis(axis.unwrap_or(isize::from(ndim > 1)), ndim)?;
    Ok((Rows::new(input, Some(axis)), axis))
}
