//! Reading pieces of files: one system call for each, no Python between them, and several threads where there are many.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::thread;

use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

functions! { read_pieces }

/// Pieces for which another thread is started: reading them takes about as long as starting twenty threads.
const PIECES_OF_A_THREAD: usize = 1 << 11;

/// Reads pieces of a file one after the other into a buffer, and says whether all of them were read: groups of `count`
/// pieces of `length` bytes each, `step` bytes apart, of which the first ones begin at the bytes `firsts`.
#[pyfunction]
#[pyo3(signature = (descriptor, buffer, length, count, step, firsts, /))]
pub(super) fn read_pieces(
    descriptor: i32,
    buffer: &Bound<'_, PyArray1<u8>>,
    length: usize,
    count: usize,
    step: u64,
    firsts: Vec<u64>,
) -> PyResult<bool> {
    let pieces = firsts.len().checked_mul(count);
    if length == 0 || pieces.and_then(|pieces| pieces.checked_mul(length)) != Some(buffer.len()) {
        return Err(PyValueError::new_err("the pieces do not fill the buffer"));
    }
    let pieces = buffer.len() / length;
    let mut out = buffer.try_readwrite()?;
    let out = out.as_slice_mut()?;
    // SAFETY: the caller keeps the file open during the call, and it is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
    let threads = crate::num_threads()?.min(pieces / PIECES_OF_A_THREAD).max(1);
    let each = pieces.div_ceil(threads).max(1);
    let read = |part: &mut [u8], number: usize| -> io::Result<()> {
        for (at, piece) in part.chunks_exact_mut(length).enumerate() {
            let at = number * each + at;
            file.read_exact_at(piece, firsts[at / count] + (at % count) as u64 * step)?;
        }
        Ok(())
    };
    let done: io::Result<()> = buffer.py().detach(|| {
        let mut parts = out.chunks_mut(each * length).enumerate();
        let first = parts.next();
        thread::scope(|scope| {
            let start =
                |(number, part)| thread::Builder::new().spawn_scoped(scope, move || read(part, number));
            let others: Vec<_> = parts.map(start).collect();
            first.map_or(Ok(()), |(number, part)| read(part, number))?;
            others
                .into_iter()
                .try_for_each(|other| other?.join().unwrap_or_else(|_| Err(ErrorKind::Other.into())))
        })
    });
    match done {
        Ok(()) => Ok(true),
        // The file ends, or there are no threads to be had.
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::WouldBlock) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
