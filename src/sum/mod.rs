//! Sums: what no order of the terms changes, and what is added up in a fixed order.

pub(crate) mod compensated;
pub(crate) mod exact;
pub(crate) mod integer;
pub(crate) mod parts;
pub(crate) mod reduce;
