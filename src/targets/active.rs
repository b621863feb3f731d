//! Which rows count: those that neither a mask nor their target leaves out.

use std::num::NonZero;
use std::ops::Range;

use crate::array::rows::{Rows, read};
use crate::error::Error;
use crate::kernel::TILE;
use crate::kernel::rowset::all;
use crate::parallel::{Context, try_for_each_chunk_of};

/// Rows that follow each other, and a bit for each of them that counts.
pub(crate) struct ActiveRows {
    pub start: usize,
    pub bits: u64,
}

/// The rows among which the first that count are looked for: those of a prompt or of padding may come before them.
const MOST_BEFORE: usize = 1 << 14;

/// The first `wanted` of `rows` rows if one of them counts, else as many of the first tile in which one does.
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

/// Tile by tile, whether something holds for all `rows` rows.
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

/// The same on the calling thread alone: for what the first tile nearly always decides.
pub(super) fn all_tiles_here(
    rows: usize,
    context: Context<'_>,
    holds: impl Fn(Range<usize>) -> bool + Sync,
) -> Result<bool, Error> {
    all_tiles(rows, Context { threads: Some(NonZero::<usize>::MIN), ..context }, holds)
}

pub(super) fn mask_bits(mask: Option<&Rows<'_, u8>>, range: Range<usize>) -> u64 {
    let len = range.len();
    let all = all(len);
    let Some(mask) = mask else { return all };
    let mut counts = [false; TILE];
    read(mask, range, &mut counts, |x| x != 0);
    counts.iter().enumerate().fold(0, |bits, (i, counts)| bits | u64::from(*counts) << i) & all
}
