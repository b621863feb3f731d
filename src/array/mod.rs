//! Arrays of any layout and dtype, read and written as rows, as single rows in `f64` and as blocks of numbers.

pub(crate) mod any;
pub(crate) mod blocks;
pub(crate) mod new;
pub(crate) mod rows;
pub(crate) mod single;
