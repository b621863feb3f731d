//! Sums: exact ones, which no order of the terms changes, and rounded ones in a fixed order.

pub(crate) mod compensated;
pub(crate) mod exact;
pub(crate) mod integer;
pub(crate) mod parts;
pub(crate) mod reduce;
