//! One-pass batch scoring: what a row tells besides its loss.

use fearless_simd::dispatch;

use crate::error::Error;
use crate::kernel::element::Element;
use crate::kernel::{TILE, isa};
use crate::loss::{Input, input_rows};
use crate::parallel::{Context, for_each_range};
use crate::rows::View;
use crate::targets::{OutOfRange, Target, Targets, TileLabels};
use crate::tiles::{Tiles, bits};

/// Per-row results, in the order of the targets.
#[derive(Clone, Debug, Default)]
pub struct RowScores {
    /// The negative log-likelihood of the target in nats; 0 for ignored rows.
    pub nll: Vec<f64>,
    /// The first class with the largest logit; 0 for ignored rows.
    pub prediction: Vec<i64>,
    /// False for ignored rows.
    pub counted: Vec<bool>,
}

/// Scores rows of logits against class indices.
///
/// # Errors
/// See [`Error`]; class probabilities are refused.
pub fn score_rows<E: Element>(
    logits: View<'_, E>,
    target: &Target<'_>,
    ignore_index: i64,
    axis: isize,
    context: Context<'_>,
) -> Result<RowScores, Error> {
    let Input { rows, shape, axis } = input_rows(&logits, Some(axis))?;
    if target.is_floating() {
        return Err(Error::ProbabilitiesNotSupported);
    }
    let Targets::Indices(labels) = Targets::new(target, &shape, axis, ignore_index, None)? else {
        return Err(Error::ProbabilitiesNotSupported);
    };
    let level = isa::selected()?;
    let parts = for_each_range(
        context,
        rows.layout.line.len(),
        rows.layout.classes,
        || Tiles::new(rows.clone()),
        |tiles, rows| -> Result<RowScores, OutOfRange> {
            let mut part = RowScores::default();
            for first in rows.clone().step_by(TILE) {
                let range = first..(first + TILE).min(rows.end);
                let mut tile = TileLabels::default();
                dispatch!(level, simd => labels.tile(simd, range.clone(), &mut tile))?;
                dispatch!(level, simd => tiles.sum(simd, range.clone(), tile.counted));
                let all = dispatch!(level, simd => tiles.nll(simd, &tile.class, tile.counted));
                let (mut nll, mut prediction) = ([0.0; TILE], [0; TILE]);
                for i in bits(tile.counted) {
                    nll[i] = all[i];
                    prediction[i] = tiles.argmax(i) as i64;
                }
                part.nll.extend_from_slice(&nll[..range.len()]);
                part.prediction.extend_from_slice(&prediction[..range.len()]);
                part.counted.extend((0..range.len()).map(|i| tile.counted >> i & 1 == 1));
            }
            Ok(part)
        },
    )?;
    let mut scores = RowScores::default();
    for part in parts {
        let part = part.map_err(|OutOfRange| labels.first_out_of_range())?;
        scores.nll.extend(part.nll);
        scores.prediction.extend(part.prediction);
        scores.counted.extend(part.counted);
    }
    Ok(scores)
}
