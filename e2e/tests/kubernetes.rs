//! The test cluster itself: what Taba's tests on Kubernetes take for granted.
//!
//! Needs root and minutes, so it is built only with the feature `kubernetes`, by `cargo xtask test
//! kubernetes`. That runs each test by itself, since there is one cluster on a machine: the first before there is one, the
//! second on the one that all other tests use as well, the third when that one was brought down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use taba_e2e::runner::{Cluster, run, xtask};

const PATIENCE: Duration = Duration::from_secs(180);
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes/smoke.yaml");

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes/policies.yaml");

/// What there was before the first cluster, as the third test needs it.
const BEFORE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/traces-before.json");

/// The control plane is up and the first node's containerd runs: the worst moment to die.
#[test]
fn killed_half_way_a_cluster_leaves_no_trace() -> Result<()> {
    ensure!(!Path::new("/var/lib/taba-cluster").exists(), "a cluster is up: run `cargo xtask down` first");
    let before = Traces::look()?;
    fs::write(BEFORE, serde_json::to_vec(&before.0)?)?;
    let mut up = Killed(xtask(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    wait_until("a node's containerd", || {
        ensure!(up.0.try_wait()?.is_none(), "`up` ended too soon");
        Ok(!processes_of("taba/node1/containerd").is_empty())
    })?;
    drop(up);
    run(&["down"])?;
    no_trace_since(&before)
}

/// After all that other tests did to it.
#[test]
fn brought_down_a_cluster_leaves_no_trace() -> Result<()> {
    let before = fs::read(BEFORE).context("read what the first test saw")?;
    fs::remove_file(BEFORE)?;
    no_trace_since(&Traces(serde_json::from_slice(&before)?))
}

#[test]
fn a_cluster_serves_pods_names_volumes_and_figures() -> Result<()> {
    let _cluster = Cluster::ensure()?;
    let pods = || run(&["kubectl", "get", "pods", "--namespace", "kube-system", "-o", "name"]);
    let first = pods()?;
    run(&["up", "--nodes", "4"])?;
    assert_eq!(first, pods()?, "a second `up` changes nothing");

    four_nodes_are_ready()?;
    run(&["kubectl", "apply", "--filename", MANIFEST])?;
    a_service_answers_by_name_from_both_nodes()?;
    a_policy_is_enforced_on_both_nodes()?;
    a_claim_is_bound_and_keeps_what_is_written()?;
    figures_of_nodes_are_there()?;
    nothing_outside_can_be_reached()?;
    run(&["helm", "list", "--all-namespaces"])?;
    // Others come after it.
    run(&["kubectl", "delete", "--filename", MANIFEST])?;
    run(&["kubectl", "wait", "--for=delete", "pods", "--all", "--timeout=60s"])?;
    run(&["kubectl", "delete", "pvc", "--all", "--wait=false"])?;
    run(&["kubectl", "label", "namespace", "default", "web-"]).map(drop)
}

fn four_nodes_are_ready() -> Result<()> {
    let path = r#"{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}"#;
    let ready = run(&["kubectl", "get", "nodes", "-o", &format!("jsonpath={path}")])?;
    assert_eq!(ready.trim(), "node1=True node2=True node3=True node4=True");
    Ok(())
}

fn a_service_answers_by_name_from_both_nodes() -> Result<()> {
    rolled_out("deployment/web")?;
    rolled_out("deployment/client")?;
    let path = "jsonpath={.items[*].spec.nodeName}";
    for label in ["app=web", "app=client"] {
        let nodes = run(&["kubectl", "get", "pods", "-l", label, "-o", path])?;
        assert_eq!(nodes.split(' ').collect::<BTreeSet<_>>(), BTreeSet::from(["node1", "node2"]), "{label}");
    }
    let clients = run(&["kubectl", "get", "pods", "-l", "app=client", "-o", "name"])?;
    let servers =
        run(&["kubectl", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"])?;
    let servers: BTreeSet<_> = servers.split(' ').map(str::to_owned).collect();
    for client in clients.lines() {
        let mut answered = BTreeSet::new();
        wait_until(&format!("answers to {client} from both servers"), || {
            let url = "http://web.default.svc.cluster.local:8080/";
            let answer = run(&["kubectl", "exec", client, "--", "fetch", url])?;
            answered.insert(answer.trim().to_owned());
            Ok(answered == servers)
        })?;
    }
    Ok(())
}

/// Between pods on one node and on two: each client asks each server by its own address.
fn a_policy_is_enforced_on_both_nodes() -> Result<()> {
    let clients = run(&["kubectl", "get", "pods", "-l", "app=client", "-o", "name"])?;
    let servers =
        run(&["kubectl", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"])?;
    let answers = |client: &str, server: &str| -> Result<bool> {
        let url = format!("http://{server}:8080/");
        Ok(xtask(&["kubectl", "exec", client, "--", "fetch", &url]).output()?.status.success())
    };
    // At once, for silence takes its time.
    let all = |expected: bool| -> Result<bool> {
        let pairs = clients.lines().flat_map(|client| servers.split(' ').map(move |server| (client, server)));
        std::thread::scope(|scope| {
            let asked: Vec<_> =
                pairs.map(|(client, server)| scope.spawn(move || answers(client, server))).collect();
            let mut answered = asked.into_iter().map(|one| one.join().expect("no thread panics"));
            answered.try_fold(true, |so_far, answer| Ok(so_far && answer? == expected))
        })
    };
    wait_until("all servers answer all clients", || all(true))?;
    run(&["kubectl", "apply", "--filename", POLICIES])?;
    wait_until("no server answers while nobody is let in", || all(false))?;
    run(&["kubectl", "label", "namespace", "default", "web=open"])?;
    wait_until("all servers answer those who are let in", || all(true))?;
    run(&["kubectl", "delete", "--filename", POLICIES])?;
    Ok(())
}

fn a_claim_is_bound_and_keeps_what_is_written() -> Result<()> {
    rolled_out("statefulset/store")?;
    let phase = run(&["kubectl", "get", "pvc", "data-store-0", "-o", "jsonpath={.status.phase}"])?;
    assert_eq!(phase, "Bound");
    run(&["kubectl", "exec", "store-0", "--", "sh", "-c", "echo kept >/data/file"])?;
    run(&["kubectl", "delete", "pod", "store-0", "--grace-period=1"])?;
    rolled_out("statefulset/store")?;
    run(&["kubectl", "wait", "--for=condition=Ready", "pod/store-0", "--timeout=180s"])?;
    assert_eq!(run(&["kubectl", "exec", "store-0", "--", "cat", "/data/file"])?.trim(), "kept");
    Ok(())
}

fn figures_of_nodes_are_there() -> Result<()> {
    let top = run(&["kubectl", "top", "nodes", "--no-headers"])?;
    assert_eq!(top.lines().filter(|line| line.contains("Mi")).count(), 4, "{top}");
    Ok(())
}

/// An address outside fails at once for want of a route, rather than after a timeout.
fn nothing_outside_can_be_reached() -> Result<()> {
    let words = ["kubectl", "exec", "deployment/client", "--", "nc", "-w", "20", "192.0.2.1", "80"];
    let refused = xtask(&words).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("unreachable"), "{said}");
    Ok(())
}

fn rolled_out(what: &str) -> Result<String> {
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    let rolled_out = run(&["kubectl", "rollout", "status", what, &timeout]);
    rolled_out.inspect_err(|_| {
        let _ = xtask(&["kubectl", "describe", "pods"]).status();
    })
}

/// What a cluster could leave behind, by kind.
#[derive(Debug, PartialEq, Eq)]
struct Traces(BTreeMap<String, BTreeSet<String>>);

impl Traces {
    fn look() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?.lines().map(str::to_owned).collect();
        let interfaces = fs::read_dir("/sys/class/net")?.flatten();
        let interfaces = interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let rules = Command::new("iptables-save").output().context("iptables-save")?;
        let rules = String::from_utf8(rules.stdout)?;
        let rules = rules.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        let settings = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];
        let settings = settings.map(|name| {
            let value = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
            format!("{name}={value}")
        });
        let kinds: [(&str, BTreeSet<String>); 4] =
            [("mounts", mounts), ("interfaces", interfaces), ("rules", rules), ("settings", settings.into())];
        Ok(Self(kinds.into_iter().map(|(kind, traces)| (kind.to_owned(), traces)).collect()))
    }
}

fn no_trace_since(before: &Traces) -> Result<()> {
    assert_eq!(&Traces::look()?, before);
    assert!(groups("taba").is_empty(), "a control group is left");
    assert!(!Path::new("/var/lib/taba-cluster").exists(), "a folder is left");
    // A namespace lives as long as a process in it, and every process of the cluster has one of these.
    let own = fs::read_link("/proc/self/ns/net")?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let elsewhere = fs::read_link(entry.path().join("ns/net")).is_ok_and(|there| there != own);
        let ours = command.contains("taba-cluster") || command.contains("containerd-shim");
        assert!(!(elsewhere && ours), "a process is left: {command}");
    }
    Ok(())
}

/// The folders of a control group in every tree.
fn groups(name: &str) -> Vec<std::path::PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let trees =
        mounts.lines().filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")));
    let folders = trees.filter_map(|line| line.split(' ').nth(1)).map(|tree| Path::new(tree).join(name));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn processes_of(group: &str) -> String {
    let folders = groups(group).into_iter();
    folders.map(|folder| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default()).collect()
}

/// A process that dies with the test, at once and without a chance to clean up.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !so()? {
        ensure!(Instant::now() < end, "waited in vain for {what}");
        // Each try starts a kubectl, and others want the cores.
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
