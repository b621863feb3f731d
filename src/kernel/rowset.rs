//! A set of a tile's rows: a bit for each row.

use super::TILE;

/// The rows whose bits are set.
#[inline(always)]
pub(crate) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let i = mask.trailing_zeros() as usize;
        (mask != 0).then(|| {
            mask &= mask - 1;
            i
        })
    })
}

/// All of the first `len` rows.
#[inline(always)]
pub(crate) fn all(len: usize) -> u64 {
    if len == TILE { u64::MAX } else { (1 << len) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_their_order() {
        assert_eq!(bits(0b1010_0001).collect::<Vec<_>>(), [0, 5, 7]);
        assert_eq!(bits(0).count(), 0);
        for len in [0, 1, 63, TILE] {
            assert_eq!(bits(all(len)).collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
        }
    }
}
