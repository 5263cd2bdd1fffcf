//! Records what the machine it runs on does, until it is stopped: CPU, memory, load, disks, network.
//!
//! ```text
//! cargo run --release -p taba-client --example host
//! ```
//!
//! Start `taba standalone` first, and watch with `taba top`.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use clap::Parser;
use sysinfo::{Disks, Networks, System};
use taba_client::Client;

/// Records CPU, memory, load, disks and network of this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Agent or server to post to.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8300")]
    server: String,
    /// Seconds between two looks at the machine.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = period)]
    every: f64,
    /// Stop after so many looks instead of running until the terminal is closed.
    #[arg(long, value_name = "N")]
    looks: Option<u64>,
}

fn period(text: &str) -> Result<f64, String> {
    let secs: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.25..=3600.0).contains(&secs) { Ok(secs) } else { Err("must be 0.25 to 3600".to_owned()) }
}

/// What a look at the machine sees.
struct Machine {
    system: System,
    disks: Disks,
    networks: Networks,
}

#[allow(clippy::print_stdout, reason = "this program prints what it records")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let host = System::host_name().unwrap_or_else(|_| "localhost".to_owned());
    let client = Client::builder(&args.server)
        .client_id(format!("{}.host", taba_core::name::sanitize(&host)))
        .start()?;
    let stopped = stop_with_standard_input();
    let mut machine = Machine::new()?;
    println!("recording {host} to {} every {} s; end it with Ctrl-C or Ctrl-D", args.server, args.every);
    let mut looks = 0;
    while args.looks.is_none_or(|wanted| looks < wanted) {
        // The first look only starts the counters that the next one reads.
        match stopped.recv_timeout(Duration::from_secs_f64(args.every)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
        looks += 1;
        println!("{}", machine.record(&client));
    }
    client.flush(Duration::from_secs(5))?;
    let stats = client.stats();
    println!(
        "{} events recorded, {} acknowledged in {} batches",
        stats.recorded, stats.delivery.acknowledged.events, stats.delivery.acknowledged.batches
    );
    Ok(())
}

/// A channel that gets a word when standard input ends by hand. Input that is empty from the start, as
/// under a service manager, stops nothing.
fn stop_with_standard_input() -> Receiver<()> {
    let (stop, stopped) = sync_channel(1);
    std::thread::spawn(move || {
        let (mut line, mut typed) = (String::new(), std::io::IsTerminal::is_terminal(&std::io::stdin()));
        while std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            line.clear();
            typed = true;
        }
        if !typed {
            // Keeps the channel open for ever.
            loop {
                std::thread::park();
            }
        }
        // Nobody listens if the program ends at this very moment.
        let _ = stop.send(());
    });
    stopped
}

impl Machine {
    fn new() -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_cpu_usage();
        let (disks, networks) = (Disks::new_with_refreshed_list()?, Networks::new_with_refreshed_list()?);
        Ok(Self { system, disks, networks })
    }

    /// Records one look and says it in a line.
    fn record(&mut self, client: &Client) -> String {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        self.networks.refresh(true);
        let cpu = self.record_cpu(client);
        let load = record_load(client);
        let memory = self.record_memory(client);
        let (read, written) = self.record_disks(client);
        let (received, sent) = self.record_networks(client);
        format!(
            "cpu {cpu:5.1} %  memory {memory:5.1} %  load {load:5.2}  disk {} read {} written  network {} in {} out",
            bytes(read),
            bytes(written),
            bytes(received),
            bytes(sent),
        )
    }

    fn record_cpu(&self, client: &Client) -> f64 {
        let cpu = f64::from(self.system.global_cpu_usage());
        client.percentile("host/cpu_pct").record(cpu);
        for core in self.system.cpus() {
            client.percentile(&tab("host/core_pct", core.name())).record(f64::from(core.usage()));
        }
        client.gauge("host/cores", self.system.cpus().len());
        cpu
    }

    fn record_memory(&self, client: &Client) -> f64 {
        let (used, total) = (self.system.used_memory(), self.system.total_memory().max(1));
        let pct = used as f64 / total as f64 * 100.0;
        client.percentile("host/memory_pct").record(pct);
        client.percentile("host/memory_used_bytes").record(used as f64);
        client.percentile("host/swap_used_bytes").record(self.system.used_swap() as f64);
        client.gauge("host/memory_bytes", total);
        pct
    }

    fn record_disks(&self, client: &Client) -> (u64, u64) {
        let (mut read, mut written) = (0, 0);
        for disk in &self.disks {
            let usage = disk.usage();
            let mount = disk.mount_point().to_string_lossy();
            let used = disk.total_space().saturating_sub(disk.available_space());
            let pct = used as f64 / disk.total_space().max(1) as f64 * 100.0;
            client.percentile(&tab("host/disk_used_pct", &mount)).record(pct);
            client.counter(&tab("host/disk_read_bytes", &mount)).record(usage.read_bytes as f64);
            client.counter(&tab("host/disk_written_bytes", &mount)).record(usage.written_bytes as f64);
            read += usage.read_bytes;
            written += usage.written_bytes;
        }
        (read, written)
    }

    fn record_networks(&self, client: &Client) -> (u64, u64) {
        let (mut received, mut sent) = (0, 0);
        for (name, network) in &self.networks {
            let name = &*name.to_string_lossy();
            client.counter(&tab("host/net_in_bytes", name)).record(network.received() as f64);
            client.counter(&tab("host/net_out_bytes", name)).record(network.transmitted() as f64);
            received += network.received();
            sent += network.transmitted();
        }
        (received, sent)
    }
}

/// Not every system has a load average; those that have none record none.
fn record_load(client: &Client) -> f64 {
    let Ok(load) = System::load_average() else { return 0.0 };
    client.percentile("host/load_1m").record(load.one);
    load.one
}

/// A tab of one device; names of devices may hold anything.
fn tab(name: &str, device: &str) -> String {
    let device = taba_core::name::sanitize(device.trim_start_matches('/'));
    if device.is_empty() { format!("{name}/root") } else { format!("{name}/{device}") }
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}
