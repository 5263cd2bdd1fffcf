//! Compares ways to keep the queue and the states on disk, on our commit pattern.
//!
//! Queue: 8 callers accept batches of 200 kB in 64 blocks, at 200 a second and as fast as it goes, one
//! sync per group, dropped a second later. States: commits of 30,000 and 470 states of 1–3 kB over
//! 300,000 keys, then point reads. `cargo bench -p taba-server --bench stores [-- FILTER]`; needs about
//! 3 GB in `$TMPDIR`. CPU is that of this process, callers' copies of 200 kB included.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at any error")]

#[path = "stores/queues.rs"]
mod queues;
#[path = "stores/states.rs"]
mod states;

use std::path::Path;

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("| queue | batches/s | MB/s | accept p50 ms | p99 ms | CPU s/GB | cores | disk MB after |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, open) in queues::CONTENDERS.iter().filter(|(name, _)| name.contains(&filter)) {
        for batches_per_sec in [200, 0] {
            queues::run(name, *open, batches_per_sec);
        }
    }
    println!();
    println!(
        "| states | commit of 30,000 ms | synced ms | of 470 ms | CPU ms per 1,000 | read p50 µs | p99 µs | disk MB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (name, open) in states::CONTENDERS.iter().filter(|(name, _)| name.contains(&filter)) {
        states::run(name, *open);
    }
}

/// CPU seconds of this process so far.
fn cpu_secs() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The value below which `share` of the sorted values lie.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn disk_megabytes(path: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let each = entries.map(|path| match path.is_dir() {
        true => disk_megabytes(&path),
        false => path.metadata().map_or(0.0, |file| file.blocks() as f64 * 512.0 / 1e6),
    });
    each.sum()
}

/// Random bytes of which a quarter are zero, as encoded states have some structure.
fn random_bytes(random: &mut impl rand::RngExt, bytes: usize) -> Vec<u8> {
    let words = (0..bytes.div_ceil(8)).map(|_| random.random::<u64>() & 0x00ff_ffff_00ff_ffff);
    let mut out: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    out.truncate(bytes);
    out
}
