//! Chunks of rows on threads: the only file that knows rayon.
//!
//! Work is cut into chunks by its shape alone, and each chunk's result has its own place: the number of
//! threads decides which thread computes a chunk, never what is computed. The calling thread takes part,
//! and is the one that checks for interrupts.
//!
//! The pool is private and built on first use. It belongs to the process that built it: a forked child
//! finds another process id, leaves the parent's pool (whose threads it does not have) and builds its own.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::Error;

/// Elements in a chunk: large enough that taking one costs nothing, small enough to split work evenly among threads.
const CHUNK_ELEMENTS: usize = 1 << 16;

/// Elements below which waking another thread costs more than it brings.
const SERIAL_ELEMENTS: usize = 1 << 17;

/// How often the calling thread checks for an interrupt.
const INTERRUPT_PERIOD: Duration = Duration::from_millis(50);

/// The threads of a call, and what can interrupt it. No result depends on it.
///
/// ```
/// use crossent::Context;
///
/// let one = Context::new().threads(1);
/// assert_eq!(one.threads.map(|n| n.get()), Some(1));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Context<'a> {
    /// At most this many threads; `None` for [`num_threads`].
    pub threads: Option<NonZero<usize>>,
    /// The interrupt that the calling thread checks every 50 ms.
    pub interrupt: Option<&'a Interrupt<'a>>,
    /// Whether the memory of an output of the input's size has not been touched before: the system clears its pages as
    /// they are written, and leaves them in the cache.
    pub untouched: bool,
}

impl<'a> Context<'a> {
    /// The defaults: as many threads as [`num_threads`] returns, and no interrupt.
    #[must_use]
    pub fn new() -> Self {
        Context::default()
    }

    /// Sets the largest number of threads; 0 for [`num_threads`].
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Context { threads: NonZero::new(threads), ..self }
    }

    /// Sets the interrupt that the calling thread checks every 50 ms.
    #[must_use]
    pub fn interrupt(self, interrupt: &'a Interrupt<'a>) -> Self {
        Context { interrupt: Some(interrupt), ..self }
    }

    /// Sets whether the memory of an output of the input's size has not been touched before: the system clears its
    /// pages as they are written, and leaves them in the cache.
    #[must_use]
    pub fn untouched(self, untouched: bool) -> Self {
        Context { untouched, ..self }
    }
}

/// A check that can stop a call with [`Error::Interrupted`]. Once it has, every call that runs under it stops.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use crossent::{Context, Interrupt};
///
/// static STOP: AtomicBool = AtomicBool::new(false);
/// let stop = || STOP.load(Ordering::Relaxed);
/// let interrupt = Interrupt::new(&stop);
/// let context = Context::new().interrupt(&interrupt);
/// # assert!(context.interrupt.is_some());
/// ```
pub struct Interrupt<'a> {
    check: &'a (dyn Fn() -> bool + Sync),
    stopped: AtomicBool,
}

impl<'a> Interrupt<'a> {
    /// `check` returns whether to stop.
    pub fn new(check: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Interrupt { check, stopped: AtomicBool::new(false) }
    }

    fn check(&self) {
        if (self.check)() {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Interrupt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    fn most_threads(&self) -> usize {
        self.threads.map_or_else(|| num_threads().unwrap_or(1), NonZero::get)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::stopped)
    }

    /// What the calling thread does before each chunk: it checks for an interrupt if the period has passed.
    pub(crate) fn watch(self) -> impl Fn() + 'a {
        let checked = Cell::new(self.interrupt.map(|interrupt| (interrupt, Instant::now())));
        move || {
            if let Some((interrupt, last)) = checked.get()
                && last.elapsed() >= INTERRUPT_PERIOD
            {
                checked.set(Some((interrupt, Instant::now())));
                interrupt.check();
            }
        }
    }

    /// Whether rows or segments are split among threads. The first context is that of the rows. The second, given where
    /// the rows are too few to keep the threads busy, splits the segments of one row after the other instead.
    pub(crate) fn for_rows_or_segments(self, rows: usize, segments: usize) -> (Self, Option<Self>) {
        if segments <= 1 {
            return (self, None);
        }
        let threads = self.most_threads();
        // Of n pieces, each thread gets at most r = n / threads, rounded up: n / (r threads) of the threads' time is
        // used.
        let rounds = |pieces: usize| pieces.div_ceil(threads) as u128;
        // One thread checks for an interrupt after each segment.
        if threads == 1 || segments as u128 * rounds(rows) > rows as u128 * rounds(segments) {
            (Context { threads: Some(NonZero::<usize>::MIN), ..self }, Some(self))
        } else {
            (self, None)
        }
    }
}

/// More threads than any machine has; a typing error should not start a million.
pub const MAX_THREADS: usize = 4096;

static THREADS: LazyLock<Result<AtomicUsize, String>> = LazyLock::new(|| {
    let all = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let text = std::env::var_os("CROSSENT_NUM_THREADS").unwrap_or_default().to_string_lossy().into_owned();
    match text.trim() {
        "" => Ok(AtomicUsize::new(all())),
        given => match given.parse() {
            Ok(n) if (1..=MAX_THREADS).contains(&n) => Ok(AtomicUsize::new(n)),
            _ => Err(text),
        },
    }
});

fn threads() -> Result<&'static AtomicUsize, Error> {
    THREADS.as_ref().map_err(|text| Error::NumThreads { text: text.clone(), most: MAX_THREADS })
}

/// The number of threads that a call may use: the one set by [`set_num_threads`], else `CROSSENT_NUM_THREADS`, else as
/// many as this process may run on.
///
/// # Errors
/// [`Error::NumThreads`] if `CROSSENT_NUM_THREADS` is not a number from 1 to [`MAX_THREADS`].
pub fn num_threads() -> Result<usize, Error> {
    Ok(threads()?.load(Ordering::Relaxed))
}

/// Sets the number of threads of every later call.
///
/// # Errors
/// As [`num_threads`].
pub fn set_num_threads(count: NonZero<usize>) -> Result<(), Error> {
    threads()?.store(count.get().min(MAX_THREADS), Ordering::Relaxed);
    Ok(())
}

/// Rows in a chunk of an array with `classes` classes: whole tiles where a chunk holds at least one.
pub(crate) fn chunk_rows(classes: usize) -> usize {
    let rows = (CHUNK_ELEMENTS / classes.max(1)).max(1);
    if rows >= crate::kernel::TILE { rows / crate::kernel::TILE * crate::kernel::TILE } else { rows }
}

/// Cuts `rows` rows of `classes` classes into chunks and runs `work` on the rows of each; the results come in
/// order. `state` makes the state that a thread reuses from chunk to chunk.
///
/// # Errors
/// [`Error::Interrupted`], [`Error::NumThreads`].
pub(crate) fn for_each_chunk_of<W, T: Send>(
    context: Context<'_>,
    rows: usize,
    classes: usize,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, Range<usize>) -> T + Sync,
) -> Result<Vec<T>, Error> {
    for_each_chunks(context, rows, classes, RowGroup::CHUNK, state, work)
}

/// How many rows a thread should take together, if there are enough for all threads to do so some times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowGroup {
    pub rows: usize,
    /// At least so many times: with few, one thread may have to wait for another's last rows.
    pub rounds: usize,
}

impl RowGroup {
    /// As many as a chunk has.
    pub(crate) const CHUNK: RowGroup = RowGroup { rows: 1, rounds: 1 };
}

/// [`for_each_chunk_of`], where a thread takes as many chunks at a time as make up a `row_group`.
///
/// # Errors
/// As [`for_each_chunk_of`].
pub(crate) fn for_each_chunks<W, T: Send>(
    context: Context<'_>,
    rows: usize,
    classes: usize,
    row_group: RowGroup,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, Range<usize>) -> T + Sync,
) -> Result<Vec<T>, Error> {
    let work = |state: &mut W, rows| Ok::<T, Infallible>(work(state, rows));
    let results = try_for_each_chunks(context, rows, classes, row_group, state, work)?;
    Ok(results.unwrap_or_else(|_| unreachable!("the work cannot fail")))
}

/// [`for_each_chunk_of`] for work that may fail: then the range of the first rows that fail is returned. The rows
/// before them have succeeded, and of those after them none is begun any more.
///
/// # Errors
/// As [`for_each_chunk_of`].
pub(crate) fn try_for_each_chunk_of<W, T: Send, E>(
    context: Context<'_>,
    rows: usize,
    classes: usize,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, Range<usize>) -> Result<T, E> + Sync,
) -> Result<Result<Vec<T>, Range<usize>>, Error> {
    try_for_each_chunks(context, rows, classes, RowGroup::CHUNK, state, work)
}

/// [`for_each_chunks`] for work that may fail, as in [`try_for_each_chunk_of`].
///
/// # Errors
/// As [`for_each_chunk_of`].
pub(crate) fn try_for_each_chunks<W, T: Send, E>(
    context: Context<'_>,
    rows: usize,
    classes: usize,
    row_group: RowGroup,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, Range<usize>) -> Result<T, E> + Sync,
) -> Result<Result<Vec<T>, Range<usize>>, Error> {
    let mut size = chunk_rows(classes);
    if row_group.rows > size {
        let (chunks, threads) = (rows.div_ceil(size), context.most_threads());
        let rounds = chunks.div_ceil(threads.saturating_mul(row_group.rows / size)).max(row_group.rounds);
        let groups = threads.saturating_mul(rounds);
        // Of several rounds the last may be shorter for some threads; a single one is divided evenly.
        size *= if row_group.rounds > 1 { chunks / groups } else { chunks.div_ceil(groups) }.max(1);
    }
    let elements = rows.saturating_mul(classes.max(1));
    let range = |chunk: usize| chunk * size..(chunk * size).saturating_add(size).min(rows);
    let results = for_each_chunk(context, rows.div_ceil(size), elements, state, |state, chunk| {
        work(state, range(chunk))
    })?;
    Ok(results.map_err(range))
}

/// The chunks that one thread begins with. They are consecutive, so that two threads seldom touch the same page of a
/// new output first, which the system then clears.
struct Share {
    next: AtomicUsize,
    end: usize,
}

impl Share {
    fn new(chunks: usize, threads: usize, thread: usize) -> Self {
        let start = |thread| (chunks as u128 * thread as u128 / threads as u128) as usize;
        Share { next: AtomicUsize::new(start(thread)), end: start(thread + 1) }
    }

    fn next(&self) -> Option<usize> {
        let chunk = self.next.fetch_add(1, Ordering::Relaxed);
        (chunk < self.end).then_some(chunk)
    }
}

/// Runs `work` on every segment of a row, given its number. After an interrupt on fewer; the call that the segments are
/// part of then ends with [`Error::Interrupted`].
pub(crate) fn for_each_segment(context: Context<'_>, segments: usize, work: &(dyn Fn(usize) + Sync)) {
    let work = |(): &mut (), segment| {
        work(segment);
        Ok::<(), Infallible>(())
    };
    let done = for_each_chunk(context, segments, usize::MAX, || (), work);
    debug_assert!(done.is_ok() || context.stopped());
}

/// Runs `work` on every chunk and returns its results in the order of the chunks; or the first chunk on which it fails,
/// after which no later one is begun.
///
/// `elements` is the size of all chunks; `state` makes the state that a thread reuses from chunk to chunk.
///
/// # Errors
/// [`Error::Interrupted`], [`Error::NumThreads`].
fn for_each_chunk<W, T: Send, E>(
    context: Context<'_>,
    chunks: usize,
    elements: usize,
    state: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, usize) -> Result<T, E> + Sync,
) -> Result<Result<Vec<T>, usize>, Error> {
    let parts = Mutex::new(Vec::new());
    let failed = hand_out(context, chunks, elements, &|next, failed| {
        let (mut done, mut reused) = (Vec::new(), None);
        while let Some(chunk) = next() {
            match work(reused.get_or_insert_with(&state), chunk) {
                Ok(result) => done.push((chunk, result)),
                Err(_) => drop(failed.fetch_min(chunk, Ordering::Relaxed)),
            }
        }
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.is_empty() {
            *parts = done;
        } else {
            parts.append(&mut done);
        }
    })?;
    if failed < usize::MAX {
        return Ok(Err(failed));
    }
    let mut done = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Each to its place: a sort would be compiled anew for each kind of result.
    for at in 0..done.len() {
        while done[at].0 != at {
            let place = done[at].0;
            done.swap(at, place);
        }
    }
    Ok(Ok(done.into_iter().map(|(_, result)| result).collect()))
}

/// What a thread does: it asks for chunks until there are none, and lowers the number to that of a chunk that fails.
type Worker<'a> = &'a (dyn Fn(&mut dyn FnMut() -> Option<usize>, &AtomicUsize) + Sync);

/// The part of [`for_each_chunk`] that is compiled once: hands the chunks out to the threads, and returns the number of
/// the first that failed, or else the largest number there is.
///
/// # Errors
/// [`Error::Interrupted`], [`Error::NumThreads`].
fn hand_out(
    context: Context<'_>,
    chunks: usize,
    elements: usize,
    worker: Worker<'_>,
) -> Result<usize, Error> {
    let wanted = context.threads.map_or_else(num_threads, |n| Ok(n.get()))?;
    let failed = AtomicUsize::new(usize::MAX);
    if chunks == 0 {
        // No state either: it may be as large as a row.
        return Ok(usize::MAX);
    }
    let threads = if elements < SERIAL_ELEMENTS { 1 } else { wanted.min(chunks).max(1) };
    // Takes the thread's own share first; `before` comes before each chunk.
    let work = |shares: &[Share], thread: usize, before: &dyn Fn()| {
        let mut left = shares[thread..].iter().chain(&shares[..thread]);
        let mut share = left.next();
        let mut next = || loop {
            let Some(chunk) = share?.next() else {
                share = left.next();
                continue;
            };
            before();
            if context.stopped() {
                return None;
            }
            if chunk <= failed.load(Ordering::Relaxed) {
                return Some(chunk);
            }
            // Those of the other shares may come before the one that failed.
            share = left.next();
        };
        worker(&mut next, &failed);
    };
    if threads == 1 {
        work(&[Share::new(chunks, 1, 0)], 0, &context.watch());
    } else {
        let shares: Vec<Share> = (0..threads).map(|i| Share::new(chunks, threads, i)).collect();
        on_threads(threads, &|thread| {
            if thread == 0 {
                work(&shares, 0, &context.watch());
            } else {
                work(&shares, thread, &|| ());
            }
        });
    }
    if context.stopped() { Err(Error::Interrupted) } else { Ok(failed.into_inner()) }
}

/// Runs `work` on `threads` threads, of which number 0 is the calling one; on that alone where there are no others.
fn on_threads(threads: usize, work: &(dyn Fn(usize) + Sync)) {
    // A pool that another call is using is not waited for: that call may be long. This one then stays on
    // its own thread, which changes no result.
    let mut claim = owned().claim();
    match claim.as_mut().and_then(|claimed| pool(claimed, threads - 1)) {
        None => work(0),
        Some(pool) => pool.in_place_scope(|scope| {
            for thread in 1..threads {
                scope.spawn(move |_| work(thread));
            }
            work(0);
        }),
    }
}

/// The number of workers requested (the calling thread is one more), and a pool of that many, or of as many as the
/// system starts.
type Pool = Option<(usize, Option<ThreadPool>)>;

/// The pool of one process. Never freed: a forked child must not join threads it does not have.
struct Owned {
    process: u32,
    pool: Mutex<Pool>,
}

impl Owned {
    /// The pool for one call, unless another call has it.
    fn claim(&self) -> Option<MutexGuard<'_, Pool>> {
        match self.pool.try_lock() {
            Ok(pool) => Some(pool),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

static OWNED: AtomicPtr<Owned> = AtomicPtr::new(std::ptr::null_mut());

/// The pool, built again where fewer than `workers` were requested before. None where not one thread can be started:
/// the calling thread then works alone.
fn pool(claimed: &mut Pool, workers: usize) -> Option<&ThreadPool> {
    if claimed.as_ref().is_none_or(|(requested, _)| *requested < workers) {
        let mut some = std::iter::successors(Some(workers), |n| (*n > 1).then_some(n / 2));
        *claimed = Some((workers, some.find_map(started)));
    }
    claimed.as_ref().and_then(|(_, pool)| pool.as_ref())
}

fn started(workers: usize) -> Option<ThreadPool> {
    let name = |i| format!("crossent-{i}");
    ThreadPoolBuilder::new().num_threads(workers).thread_name(name).build().ok()
}

fn owned() -> &'static Owned {
    let process = std::process::id();
    loop {
        let current = OWNED.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from `Box::into_raw` below, and is never freed.
        if let Some(owned) = unsafe { current.as_ref() }
            && owned.process == process
        {
            return owned;
        }
        let fresh = Box::into_raw(Box::new(Owned { process, pool: Mutex::new(None) }));
        if OWNED.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `fresh` was made above, and no other thread has it.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(threads: usize) -> Context<'static> {
        Context { threads: NonZero::new(threads), ..Context::default() }
    }

    /// The results of work that cannot fail.
    fn each<T: Send>(
        context: Context<'_>,
        chunks: usize,
        work: impl Fn(usize) -> T + Sync,
    ) -> Result<Vec<T>, Error> {
        let work = |(): &mut (), chunk| Ok::<T, Infallible>(work(chunk));
        for_each_chunk(context, chunks, usize::MAX, || (), work).map(Result::unwrap)
    }

    #[test]
    fn results_come_in_the_order_of_the_chunks_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let got = each(context(threads), 100, |chunk| chunk * 2).unwrap();
            assert_eq!(got, (0..100).map(|i| i * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_chunks_give_no_results() {
        let state = || unreachable!("there is nothing to do");
        let got = for_each_chunk(context(4), 0, usize::MAX, state, |(): &mut (), chunk| Ok::<_, ()>(chunk));
        assert!(got.unwrap().unwrap().is_empty());
    }

    #[test]
    fn the_first_failure_is_found_and_little_is_begun_after_it() {
        for threads in [1, 2, 3] {
            for bad in [0, 1, 700, 999] {
                let begun = AtomicUsize::new(0);
                let got = for_each_chunk(
                    context(threads),
                    1000,
                    usize::MAX,
                    || (),
                    |(), chunk| {
                        begun.fetch_add(1, Ordering::Relaxed);
                        if chunk >= bad { Err(()) } else { Ok(chunk) }
                    },
                );
                assert_eq!(got.unwrap(), Err(bad), "{threads} threads");
                // Each thread may begin one of each share before it sees that it fails.
                assert!(begun.into_inner() <= bad + threads * threads);
            }
        }
    }

    #[test]
    fn more_rows_than_fit_into_memory_end_with_the_first_failure() {
        for threads in [1, 2] {
            for classes in [0, 1, 3] {
                let work =
                    |(): &mut (), rows: Range<usize>| if rows.start > 0 { Err(()) } else { Ok([0.0; 8]) };
                let got = try_for_each_chunk_of(context(threads), usize::MAX, classes, || (), work);
                let size = chunk_rows(classes);
                assert_eq!(got.unwrap().unwrap_err(), size..2 * size);
            }
        }
    }

    #[test]
    fn a_call_beside_a_long_one_does_not_wait_for_it() {
        let (started, finished) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let long = each(context(2), 20, |_| {
                    started.store(true, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                });
                finished.store(true, Ordering::SeqCst);
                long.unwrap();
            });
            while !started.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let short = each(context(2), 4, |chunk| chunk).unwrap();
            assert_eq!(short, [0, 1, 2, 3]);
            assert!(!finished.load(Ordering::SeqCst));
        });
    }

    #[test]
    fn an_interrupt_stops_the_work() {
        for threads in [1, 2] {
            let started = Instant::now();
            let interrupt = Interrupt::new(&|| true);
            let context = Context { interrupt: Some(&interrupt), ..context(threads) };
            let got = each(context, 1000, |_| std::thread::sleep(Duration::from_millis(10)));
            assert_eq!(got.unwrap_err(), Error::Interrupted);
            assert!(started.elapsed() < Duration::from_secs(2));
        }
    }

    #[test]
    fn groups_hold_whole_chunks_of_all_rows_and_enough_for_all_threads() {
        for threads in [1, 2, 3, 16] {
            for (rows, classes) in [(1024, 50257), (129, 50257), (5, 50257), (300, 20000), (7, 1 << 20)] {
                for group in [RowGroup { rows: 10, rounds: 8 }, RowGroup { rows: 64, rounds: 1 }] {
                    let work = |(): &mut (), rows: Range<usize>| rows;
                    let got = for_each_chunks(context(threads), rows, classes, group, || (), work).unwrap();
                    let (mut at, size) = (0, chunk_rows(classes));
                    for range in &got {
                        assert!(range.start == at && (range.len() % size == 0 || range.end == rows));
                        assert!(range.len() <= group.rows.max(size));
                        at = range.end;
                    }
                    assert_eq!(at, rows);
                    let wanted = rows.div_ceil(size).min(threads * group.rounds);
                    let enough = if group.rounds > 1 { got.len() } else { 2 * got.len() };
                    assert!(enough >= wanted, "{rows} {classes} {threads}: {}", got.len());
                }
            }
        }
    }

    #[test]
    fn chunks_depend_on_the_shape_alone_and_hold_whole_tiles() {
        assert_eq!(chunk_rows(2), 32768);
        assert_eq!(chunk_rows(10) % 64, 0);
        assert_eq!(chunk_rows(50257), 1);
        assert_eq!(chunk_rows(0), 65536);
    }
}
