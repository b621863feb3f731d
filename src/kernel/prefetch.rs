//! Prefetching: memory is requested before it is needed.

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// How far ahead of the elements being read memory is prefetched: about as much as is computed in the latency of
/// memory. Processors follow a stream by themselves, but not from one page of 4 KiB to the next.
pub(crate) const AHEAD_BYTES: usize = 8192;

/// Prefetches `bytes` from `start` on. A hint, which changes no result: any address will do.
#[inline(always)]
pub(crate) fn prefetch<E>(start: *const E, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast::<i8>().wrapping_add(line)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes);
}

/// Prefetches what is read some steps after this step of a stream, of half a group of lines or a whole one.
///
/// A group is four lines, and each is requested twice: the four once more after the four, or with the next half. So
/// Intel's Sapphire Rapids reads a stream in the least time, but only if a group begins in the middle of 256 bytes and
/// its requests follow each other; requested once, or from another line on, it takes up to 1.8 times as long.
#[inline(always)]
pub(crate) fn prefetch_stream<E>(step: &[E]) {
    const GROUP: usize = 256;
    let group = step.as_ptr().cast::<u8>().map_addr(|at| at & !(GROUP - 1));
    for _ in 0..2 * size_of_val(step) / GROUP {
        prefetch_group(group.wrapping_add(AHEAD_BYTES + GROUP / 2));
    }
}

/// Prefetches four lines. Where they are intrinsics, the compiler moves other instructions between them.
#[inline(always)]
fn prefetch_group(start: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it never faults.
    unsafe {
        std::arch::asm!(
            "prefetcht0 [{at}]",
            "prefetcht0 [{at} + 64]",
            "prefetcht0 [{at} + 128]",
            "prefetcht0 [{at} + 192]",
            at = in(reg) start,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}

/// Prefetches `bytes` from `start` on to the second level: where many lines are of one cache set, or a tile fills the first
/// level, that has no place for them.
#[inline(always)]
pub(crate) fn prefetch_far<E>(start: *const E, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T2, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T2>(start.cast::<i8>().wrapping_add(line)) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, bytes);
}

/// Whether it is in vain to prefetch a line of each of so many classes, `stride` bytes apart, to the second level. A
/// distance of a large power of two puts them into a few of its sets, which evict most of them before their use. AMD's
/// processors then find them in the third level, sooner than in memory (Zen 4); Intel's did not (Sapphire Rapids).
pub(crate) fn is_in_vain(classes: usize, stride: usize) -> bool {
    const WAY: u32 = 17; // log2 of the bytes between lines of one set
    const LINES: usize = 32; // of a set, twice as many as it holds
    let sets = 1 << (WAY - stride.trailing_zeros().min(WAY));
    classes > LINES * sets && is_intel()
}

/// Whether Intel made the processor.
fn is_intel() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static VENDOR: LazyLock<[u32; 3]> = LazyLock::new(|| {
            #[allow(unused_unsafe, reason = "older compilers call it unsafe")]
            // SAFETY: every x86-64 processor has the instruction.
            let found = unsafe { std::arch::x86_64::__cpuid(0) };
            [found.ebx, found.edx, found.ecx]
        });
        *VENDOR == [*b"Genu", *b"ineI", *b"ntel"].map(u32::from_le_bytes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Where the rows of a later tile are. They are prefetched while this tile's terms are computed, a vector at a time:
/// requests for all of them at once would fill the processor's queue, and the loads that follow would wait. Where a second
/// pass over the tile computes an output, each pass prefetches half of the classes.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    start: *const u8,
    class: usize,
    row: usize,
    halved: bool,
}

impl Ahead {
    /// No rows.
    pub(crate) const NOTHING: Self = Ahead { start: std::ptr::null(), class: 0, row: 0, halved: false };

    /// Class c of row i at `start + c * class + i * row`, in elements.
    #[inline(always)]
    pub(crate) fn new<E>(start: *const E, class: isize, row: usize) -> Self {
        let element = size_of::<E>();
        Ahead {
            start: start.cast(),
            class: class.cast_unsigned().wrapping_mul(element),
            row: row * element,
            halved: false,
        }
    }

    /// For two passes, of which the first prefetches half of each four classes, and those that make up no four.
    #[inline(always)]
    pub(crate) fn in_halves(self) -> Self {
        Ahead { halved: true, ..self }
    }

    /// What the first pass prefetches with four classes of some rows, from `row` on: these, or half as many of the first
    /// ones.
    #[inline(always)]
    pub(crate) fn prefetch_with_four(&self, class: usize, row: usize) {
        let (first, count) = if self.halved { (class / 2, 2) } else { (class, 4) };
        (first..first + count).for_each(|class| self.prefetch(class, row));
    }

    /// What the second pass prefetches with a class of some rows, from `row` on: what is left of whole fours.
    #[inline(always)]
    pub(crate) fn prefetch_second(&self, class: usize, classes: usize, row: usize) {
        let fours = classes / 4 * 4;
        if self.halved && class % 2 == 1 && class < fours {
            self.prefetch(fours / 2 + class / 2, row);
        }
    }

    /// Prefetches a class of some rows, from `row` on.
    #[inline(always)]
    pub(crate) fn prefetch(&self, class: usize, row: usize) {
        let at = class.wrapping_mul(self.class).wrapping_add(row * self.row);
        prefetch_far(self.start.wrapping_add(at), 1);
    }
}
