//! The sums of each thread, and how they are merged.

use std::sync::{Mutex, PoisonError};

/// The sums of one thread, which are merged into those of all threads when they are dropped. They are exact, so the
/// order in which threads finish does not matter, and memory does not grow with the number of chunks.
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

/// The sums of all threads, once each part has been merged.
pub(crate) fn finished<T>(all: Mutex<T>) -> T {
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The first of two rows. A thread does not visit its rows in order.
pub(crate) fn first(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}
