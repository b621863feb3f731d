//! Arrays of any layout and dtype, as rows, single rows and blocks of numbers.

pub(crate) mod any;
pub(crate) mod blocks;
pub(crate) mod new;
pub(crate) mod rows;
pub(crate) mod single;
