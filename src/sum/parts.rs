//! What each thread adds up for itself, and how it comes together.

use std::sync::{Mutex, PoisonError};

/// Sums of one thread, which go to those of all when the thread is done. They are exact, so the order in which threads finish
/// does not matter, and memory does not grow with the number of chunks.
pub(crate) struct Part<'a, T> {
    pub(crate) own: T,
    all: &'a Mutex<T>,
    merge: fn(&mut T, &T),
}

impl<'a, T> Part<'a, T> {
    pub(crate) fn new(own: T, all: &'a Mutex<T>, merge: fn(&mut T, &T)) -> Self {
        Part { own, all, merge }
    }
}

impl<T> Drop for Part<'_, T> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        (self.merge)(&mut all, &self.own);
    }
}

/// The result that all parts have gone to.
pub(crate) fn finished<T>(all: Mutex<T>) -> T {
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The first of two rows. A thread does not meet its rows in order.
pub(crate) fn first(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}
