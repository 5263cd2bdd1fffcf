//! A full disk: posts are refused with 503, nothing acknowledged is lost, and room heals it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use taba_e2e::checker;
use taba_e2e::process::{Server, taba_binary};
use taba_e2e::producer::{Habits, Producer, SharedAddress};

/// Runs taba in a mount namespace of its own, on a small tmpfs with a ballast file in it: the mount ends
/// with the process, and taking the ballast out makes room. Works without root, by a user namespace.
fn small_disk_command(mount_point: &str) -> Command {
    let script = format!(
        "mount -t tmpfs -o size=64m tmpfs '{mount_point}' && dd if=/dev/zero of='{mount_point}/ballast' bs=1M count=40 status=none && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(taba_binary());
    command
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_heals() {
    let folder = tempfile::tempdir().expect("a folder to mount on");
    let mount_point = folder.path().to_str().expect("a plain path");
    let data = folder.path().join("data");
    let server = Server::start_with(small_disk_command(mount_point), &data, &[]).expect("the server starts");
    let address: SharedAddress = Arc::new(RwLock::new(server.address()));
    let mut producer = Producer::new("producer", 3, 2000, 4000, Habits::default());

    fill_until_refused(&server, &address, &mut producer);

    let ballast = PathBuf::from(format!("/proc/{}/root{mount_point}/ballast", server.pid()));
    std::fs::remove_file(ballast).expect("room can be made");
    for _ in 0..3 {
        producer.send_next(&address).expect("batches are acknowledged again, the refused one included");
    }
    checker::check(&server.url(""), &producer.ledger).expect("totals equal what was acknowledged");
}

/// Posts from another producer, which gives up at the first 503, fill the disk.
fn fill_until_refused(server: &Server, address: &SharedAddress, producer: &mut Producer) {
    producer.send_next(address).expect("there is room at first");
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        match producer.try_next(address) {
            Ok(()) => {}
            Err(status) => {
                assert_eq!(status, 503, "a full disk is a reason to retry later");
                let health = ureq::get(&server.url("/livez")).call().expect("the server still answers");
                assert_eq!(health.status(), 200);
                return;
            }
        }
    }
    panic!("the disk never filled");
}
