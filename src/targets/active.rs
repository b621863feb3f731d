//! Which rows are active: those that neither a mask nor their target leaves out.

use std::num::NonZero;
use std::ops::Range;

use crate::array::rows::{Rows, read};
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::rowset::all;
use crate::parallel::{Context, try_for_each_chunk_of};

/// Consecutive rows from `start` on, and a bit for each active one.
pub(crate) struct ActiveRows {
    pub start: usize,
    pub bits: u64,
}

/// How many rows are searched for the first active ones: rows of a prompt or of padding may come before them.
const MOST_BEFORE: usize = 1 << 14;

/// The first `wanted` of `rows` rows if one of them is active, else the first active ones, at most `wanted`, of the
/// first tile that has any.
pub(super) fn first_active(
    rows: usize,
    wanted: usize,
    active: impl Fn(Range<usize>) -> Option<u64>,
) -> ActiveRows {
    let first = active(0..wanted.min(rows));
    let mut found = ActiveRows { start: 0, bits: first.unwrap_or(0) };
    if first != Some(0) {
        return found;
    }
    for start in (0..rows.min(MOST_BEFORE)).step_by(TILE) {
        match active(start..(start + TILE).min(rows)) {
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

/// Whether `holds` is true of every tile of `rows` rows.
pub(super) fn all_tiles(
    rows: usize,
    context: Context<'_>,
    holds: impl Fn(Range<usize>) -> bool + Sync,
) -> Result<bool, Error> {
    let work = |(): &mut (), rows: Range<usize>| {
        let mut tiles = rows.clone().step_by(TILE).map(|first| first..(first + TILE).min(rows.end));
        if tiles.all(&holds) { Ok(()) } else { Err(()) }
    };
    Ok(try_for_each_chunk_of(context, rows, 1, || (), work)?.is_ok())
}

/// [`all_tiles`] on the calling thread alone: for questions that the first tile nearly always decides.
pub(super) fn all_tiles_here(
    rows: usize,
    context: Context<'_>,
    holds: impl Fn(Range<usize>) -> bool + Sync,
) -> Result<bool, Error> {
    all_tiles(rows, Context { threads: Some(NonZero::<usize>::MIN), ..context }, holds)
}

/// A bit for each row of `range` that the mask leaves in; without a mask, for all of them.
pub(crate) fn mask_bits(mask: Option<&Rows<'_, u8>>, range: Range<usize>) -> u64 {
    let len = range.len();
    let all = all(len);
    let Some(mask) = mask else { return all };
    let mut kept = [false; TILE];
    read(mask, range, &mut kept, |x| x != 0);
    kept.iter().enumerate().fold(0, |bits, (i, kept)| bits | u64::from(*kept) << i) & all
}
