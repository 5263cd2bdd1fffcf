//! Measures how much memory a decoder holds, so that a target can refuse more than its input justifies.
//!
//! Counts what Rust code allocates on the measuring thread; what C code allocates (zstd's window, at
//! most 8 MiB by its own limit) is not seen.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting per thread.
struct Meter;

#[global_allocator]
static METER: Meter = Meter;

thread_local! {
    // Signed, because a thread may free what another one allocated.
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(grown: usize, shrunk: usize) {
    // Layouts are at most isize::MAX bytes. Neither cell has a destructor, so both can be reached for
    // as long as the thread allocates.
    let live = LIVE_BYTES.get() + grown as isize;
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
    LIVE_BYTES.set(live - shrunk as isize);
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that returns;
// counting touches two thread-local numbers and never allocates.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks exist while the bytes are copied.
        count(size, layout.size());
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How much memory a decoder may hold: `base + per_byte * input`, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What it may hold for any input: buffers and tables of fixed size.
    pub base: usize,
    /// What it may hold for each byte of input.
    pub per_byte: usize,
}

/// Runs `decode` on an input of `input_bytes` bytes and gives its result.
///
/// # Panics
/// If more memory than the bound was held at any moment.
pub fn bounded<T>(bound: Bound, input_bytes: usize, decode: impl FnOnce() -> T) -> T {
    let allowed = bound.base + bound.per_byte * input_bytes;
    let (result, held) = peak(decode);
    assert!(held <= allowed, "held {held} bytes for {input_bytes} bytes of input; {allowed} are allowed");
    result
}

/// Runs `work` and gives its result and the most bytes it held at a moment.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let result = work();
    let held = PEAK_BYTES.get() - before;
    (result, usize::try_from(held).expect("the peak is never below its start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_what_was_freed_again_and_not_what_was_there_before() {
        let before = vec![0_u8; 1 << 20];
        let (length, held) = peak(|| vec![1_u8; 1000].len() + vec![2_u8; 500].len());
        assert_eq!((length, held), (1500, 1500));
        drop(before);
    }

    #[test]
    #[should_panic(expected = "are allowed")]
    fn an_allocation_above_the_bound_is_found() {
        let bound = Bound { base: 100, per_byte: 2 };
        bounded(bound, 10, || Vec::<u8>::with_capacity(121));
    }
}
