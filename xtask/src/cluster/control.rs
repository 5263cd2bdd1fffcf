//! The control plane: certificates, etcd, API server, controller manager, scheduler, and what runs in the
//! cluster for everyone.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::launch::{self, Launched};
use super::layout::{API_SERVICE_ADDRESS, CONTROL_ADDRESS, Layout, SERVICES, fill, node_address, node_name};
use super::programs::Programs;
use super::{PATIENCE, namespace, wait_until};
use crate::process;

/// The groups of what runs here.
pub const PARTS: [&str; 5] =
    ["holder", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// Who gets a kubeconfig, apart from the nodes.
const USERS: [&str; 5] =
    ["admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "network-policies"];

/// The folder of configurations, from the workspace's root.
const CONFIGURATIONS: &str = "e2e/cluster/config";
const MANIFESTS: &str = "e2e/cluster/manifests";

/// Starts the control plane: the API server first, the others when it answers.
pub fn start(layout: &Layout, programs: &Programs) -> Result<()> {
    make_certificates(layout, programs)?;
    let holder = namespace::make_control(layout)?;
    let run = |part: &str, flags: Vec<String>| run_part(layout, programs, holder, part, flags);
    let mut parts = [run("etcd", etcd_flags(layout))?, run("kube-apiserver", api_server_flags(layout))?];
    wait_until("the API server answers", || {
        parts.iter_mut().try_for_each(Launched::check)?;
        Ok(is_ready(layout, programs))
    })?;
    // On a busy machine these would not wait long enough for it and end.
    run("kube-controller-manager", controller_manager_flags(layout))?;
    run("kube-scheduler", scheduler_flags(layout)).map(|_| ())
}

/// Starts one of [`PARTS`] again, the holder apart, and waits until the API server answers.
pub fn start_again(layout: &Layout, programs: &Programs, part: &str) -> Result<()> {
    let flags = match part {
        "etcd" => etcd_flags(layout),
        "kube-apiserver" => api_server_flags(layout),
        "kube-controller-manager" => controller_manager_flags(layout),
        "kube-scheduler" => scheduler_flags(layout),
        _ => bail!("the control plane has no part {part:?}; there are {}", PARTS.join(", ")),
    };
    let mut started = run_part(layout, programs, namespace::holder_of("control")?, part, flags)?;
    wait_until("the API server answers", || {
        started.check()?;
        Ok(is_ready(layout, programs))
    })
}

fn run_part(
    layout: &Layout,
    programs: &Programs,
    holder: u32,
    part: &str,
    flags: Vec<String>,
) -> Result<Launched> {
    let mut words = vec![programs.kubernetes().display().to_string(), part.to_owned()];
    words.extend(flags);
    launch::launch(layout, &format!("control/{part}"), Some(holder), &words)
}

/// Whether the API server says that it is ready.
pub fn is_ready(layout: &Layout, programs: &Programs) -> bool {
    kubectl(layout, programs)
        .is_ok_and(|mut kubectl| process::succeeds(kubectl.args(["get", "--raw", "/readyz"])))
}

/// Waits until every node is there and Ready.
pub fn wait_for_nodes(layout: &Layout, programs: &Programs) -> Result<()> {
    layout.nodes().try_for_each(|node| {
        let name = format!("node/{}", node_name(node));
        wait(layout, programs, &["wait", "--for=create", &name])?;
        wait(layout, programs, &["wait", "--for=condition=Ready", &name])
    })
}

/// Brings up cluster DNS, metrics and storage.
pub fn install_services(layout: &Layout, programs: &Programs) -> Result<()> {
    let manifests = process::root().join(MANIFESTS);
    process::output(kubectl(layout, programs)?.arg("apply").arg("--filename").arg(manifests))?;
    for (namespace, deployment) in [
        ("kube-system", "deployment/coredns"),
        ("local-path-storage", "deployment/local-path-provisioner"),
        ("kube-system", "deployment/metrics-server"),
    ] {
        wait(layout, programs, &["rollout", "status", "--namespace", namespace, deployment])?;
    }
    // Ready means that it serves; the first figures come with the second scrape.
    wait_until("metrics of all nodes", || {
        let top = kubectl(layout, programs)?.args(["top", "nodes", "--no-headers"]).output();
        let text = top.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Ok(text.lines().count() == usize::from(layout.node_count()) && !text.contains("unknown"))
    })
}

fn wait(layout: &Layout, programs: &Programs, words: &[&str]) -> Result<()> {
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    process::output(kubectl(layout, programs)?.args(words).arg(timeout)).map(|_| ())
}

fn kubectl(layout: &Layout, programs: &Programs) -> Result<Command> {
    let mut command = launch::tool(namespace::holder_of("control")?, false)?;
    command.arg(programs.kubernetes()).arg("kubectl").arg("--kubeconfig").arg(layout.kubeconfig("admin"));
    Ok(command)
}

/// Makes all certificates, and the kubeconfigs that name them.
fn make_certificates(layout: &Layout, programs: &Programs) -> Result<()> {
    fs::create_dir_all(layout.pki()).context("failed to make the folder of certificates")?;
    let service = "kubernetes,kubernetes.default,kubernetes.default.svc,kubernetes.default.svc.cluster.local";
    let mut requests = vec![
        format!("kube-apiserver//kube-apiserver/127.0.0.1,{CONTROL_ADDRESS},{API_SERVICE_ADDRESS},{service}"),
        "api-server-to-kubelets//api-server-to-kubelets/".to_owned(),
        "front-proxy//front-proxy/".to_owned(),
        "admin/system:masters/admin/".to_owned(),
    ];
    requests.extend(USERS[1..].iter().map(|user| format!("{user}//system:{user}/")));
    for node in layout.nodes() {
        let (name, address) = (node_name(node), node_address(node));
        requests.push(format!("{name}/system:nodes/system:node:{name}/{name},{address}"));
    }
    let mut make = process::program(programs.kubernetes());
    process::output(make.arg("certificates").arg(layout.pki()).args(requests))?;
    let nodes = layout.nodes().map(node_name);
    USERS
        .iter()
        .map(|user| (*user).to_owned())
        .chain(nodes)
        .try_for_each(|user| write_kubeconfig(layout, &user))
}

fn write_kubeconfig(layout: &Layout, user: &str) -> Result<()> {
    let server = format!("https://{CONTROL_ADDRESS}:6443");
    let pki = layout.pki().display().to_string();
    let values = [("SERVER", server.as_str()), ("PKI", pki.as_str()), ("USER", user)];
    write_configuration("kubeconfig.yaml", &layout.kubeconfig(user), &values)
}

/// Writes a configuration with its values filled in.
pub fn write_configuration(name: &str, to: &Path, values: &[(&str, &str)]) -> Result<()> {
    let from = process::root().join(CONFIGURATIONS).join(name);
    let text = fs::read_to_string(&from).with_context(|| format!("failed to read {}", from.display()))?;
    let text = fill(&text, values).with_context(|| format!("in {name}"))?;
    fs::write(to, text).with_context(|| format!("failed to write {}", to.display()))
}

fn etcd_flags(layout: &Layout) -> Vec<String> {
    let data = layout.folder().join("etcd");
    vec![
        format!("--data-dir={}", data.display()),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--log-level=warn".into(),
        // The data dies with the cluster.
        "--unsafe-no-fsync".into(),
    ]
}

fn api_server_flags(layout: &Layout) -> Vec<String> {
    let pki = layout.pki();
    let pki = pki.display();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--advertise-address={CONTROL_ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--tls-cert-file={pki}/kube-apiserver.crt"),
        format!("--tls-private-key-file={pki}/kube-apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={pki}/service-account.pub"),
        format!("--service-account-signing-key-file={pki}/service-account.key"),
        // Nodes have no names in any DNS; logs and exec would look for them there.
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--kubelet-certificate-authority={pki}/ca.crt"),
        format!("--kubelet-client-certificate={pki}/api-server-to-kubelets.crt"),
        format!("--kubelet-client-key={pki}/api-server-to-kubelets.key"),
        // No kube-proxy runs beside the API server, so it must go to the pods behind a Service itself.
        "--enable-aggregator-routing".into(),
        format!("--requestheader-client-ca-file={pki}/ca.crt"),
        "--requestheader-allowed-names=front-proxy".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        format!("--proxy-client-cert-file={pki}/front-proxy.crt"),
        format!("--proxy-client-key-file={pki}/front-proxy.key"),
    ]
}

fn controller_manager_flags(layout: &Layout) -> Vec<String> {
    let pki = layout.pki();
    let pki = pki.display();
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("kube-controller-manager").display()),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!("--service-account-private-key-file={pki}/service-account.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        // Tests wait for these: a dead node and a change of load are noticed sooner than by default.
        "--node-monitor-grace-period=20s".into(),
        "--horizontal-pod-autoscaler-sync-period=5s".into(),
        "--horizontal-pod-autoscaler-downscale-stabilization=10s".into(),
    ]
}

fn scheduler_flags(layout: &Layout) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", layout.kubeconfig("kube-scheduler").display()),
        "--leader-elect=false".into(),
    ]
}
