//! A lab leaves nothing behind, however it ends: no process, no folder, no network.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use taba_e2e::process::cluster_programs;

/// A folder for labs of a test's own, so that labs of others stay as they are.
fn lab(temp: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taba-lab"));
    command.env("TMPDIR", temp).args(arguments);
    command
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Processes of the machine whose command line names a folder.
fn processes_naming(folder: &Path) -> Vec<u32> {
    let needle = folder.to_str().expect("a plain path").as_bytes();
    let entries = std::fs::read_dir("/proc").expect("the kernel lists processes");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            line.windows(needle.len()).any(|window| window == needle).then_some(pid)
        })
        .collect()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn folders(temp: &Path) -> usize {
    std::fs::read_dir(temp).expect("the folder is there").count()
}

#[test]
fn a_lab_is_up_until_it_is_taken_down_and_survives_what_a_person_does_to_it() {
    let _ = cluster_programs();
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let up = lab(temp, &["up"]).output().expect("it runs");
    assert!(up.status.success(), "{}", text(&up));
    let tell = |command: &[&str]| text(&lab(temp, command).output().expect("it runs"));
    assert!(tell(&["traffic", "on"]).contains("flows"));
    assert!(tell(&["kill", "s0-a"]).contains("done"));
    wait_until("a replica takes over", || {
        tell(&["status"]).lines().any(|line| line.contains("open") && !line.starts_with("s1"))
    });
    assert!(tell(&["start", "s0-a"]).contains("done"));
    assert!(tell(&["kill", "nobody"]).contains("there are"));
    let end = tell(&["traffic", "off"]);
    assert!(end.contains(" 0 lost, 0 doubled"), "{end}");
    assert!(tell(&["down"]).contains("removed"));
    assert_eq!((processes_naming(temp), folders(temp)), (Vec::new(), 0));
    assert!(tell(&["status"]).contains("no lab is up"));
}

#[test]
fn a_campaign_that_is_killed_takes_its_labs_along_and_the_next_removes_their_folders() {
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let programs = cluster_programs().to_str().expect("a plain path");
    let mut faults = lab(temp, &["faults", "--runs", "1", "--programs", programs]);
    let mut campaign = faults.stderr(Stdio::null()).spawn().expect("it runs");
    // More than the lab's two processes: the cluster is there.
    wait_until("a lab starts", || processes_naming(temp).len() > 5);
    campaign.kill().expect("it can be killed");
    campaign.wait().expect("it ends");
    wait_until("no process stays", || processes_naming(temp).is_empty());
    let next = lab(temp, &["down"]).output().expect("it runs");
    assert!(next.status.success(), "{}", text(&next));
    assert_eq!(folders(temp), 0);
}

#[test]
fn a_lab_that_is_killed_is_a_leftover_which_the_next_command_removes() {
    let _ = cluster_programs();
    let temp = tempfile::tempdir().expect("a folder");
    let temp = temp.path();
    let up = lab(temp, &["up", "--shards", "1"]).output().expect("it runs");
    assert!(up.status.success(), "{}", text(&up));
    let outermost = processes_naming(temp).into_iter().min().expect("the lab runs");
    Command::new("kill").args(["-9", &outermost.to_string()]).status().expect("kill runs");
    wait_until("no process stays", || processes_naming(temp).is_empty());
    let down = lab(temp, &["down"]).stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it runs");
    let said: Vec<_> = BufReader::new(down.stderr.as_slice()).lines().map_while(Result::ok).collect();
    assert!(said.iter().any(|line| line.contains("removed what a killed lab left")), "{said:?}");
    assert_eq!(folders(temp), 0);
}
