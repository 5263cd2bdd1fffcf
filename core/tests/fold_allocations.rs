//! Folding allocates for the parts as they grow, never for an event or a block.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use taba_core::fold::{FoldLimits, Folder};
use taba_core::{Timestamp, VbucketCount};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts")]
// SAFETY: all calls go to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BLOCK_EVENTS: usize = 50;

fn body(events: usize, line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut body = String::from("1\n\nc\n\n");
    for event in 0..events {
        if event % BLOCK_EVENTS == 0 {
            body.push_str(if event == 0 { "n\n" } else { "\nn\n" });
        }
        body.push_str(&line(event));
        body.push('\n');
    }
    body.into_bytes()
}

fn allocations(body: &[u8]) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let vbuckets = VbucketCount::new(1).expect("a valid count");
    let mut folder = Folder::new(vbuckets, FoldLimits::default(), Timestamp::from_secs(1_394_047_815));
    body.chunks(1000).for_each(|piece| folder.feed(piece).expect("sound framing"));
    let folded = folder.finish().expect("sound framing");
    assert!(folded.events > 0 && folded.bad.total() == 0);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn ten_times_the_blocks_cost_no_more_allocations() {
    let quick = |event: usize| format!(r#"["CounterGroup", 1394047812.35, "{}"]"#, event % 10);
    let general = |event: usize| format!(r#"["CounterGroup", "1394047812.35", "\u003{}e0"]"#, event % 10);
    for line in [&quick as &dyn Fn(usize) -> String, &general] {
        let (few, many) = (body(3_000, line), body(30_000, line));
        let (few, many) = (allocations(&few), allocations(&many));
        assert!(many <= few + 10, "{few} allocations, then {many}");
    }
}
