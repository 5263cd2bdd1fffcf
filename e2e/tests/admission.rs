//! The rules of the CRD, on a real API server: what is let in, what is not, and what one is told.
//!
//! Nothing but the objects that changes start from is stored (`--dry-run=server`), and nobody acts on them. Uses
//! the cluster that is up, or else starts one and removes it.

#[path = "admission/changes.rs"]
mod changes;
#[path = "admission/invalid.rs"]
mod invalid;
#[path = "admission/valid.rs"]
mod valid;

use anyhow::Result;
use taba_e2e::runner::{Cluster, run, run_with, xtask};

const NAMESPACE: &str = "admission";
const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/tabaclusters.taba.dev.yaml");
const DEFINITION: &str = "crd/tabaclusters.taba.dev";

/// Removes what this test brought, also after a failed assertion: its namespace, and the definition, which Helm
/// would not take over from us.
struct Traces {
    was_defined: bool,
}

impl Traces {
    fn begin() -> Result<Self> {
        let found = run(&["kubectl", "get", DEFINITION, "--ignore-not-found", "-o", "name"])?;
        Ok(Self { was_defined: !found.is_empty() })
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let words = ["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
        let _ = xtask(&words).status();
        if !self.was_defined {
            let _ = xtask(&["kubectl", "delete", DEFINITION, "--ignore-not-found"]).status();
        }
    }
}

#[test]
fn every_spec_gets_the_answer_it_deserves() -> Result<()> {
    let _cluster = Cluster::ensure()?;
    let _traces = Traces::begin()?;
    // As the chart installs it: where that was done, this changes nothing.
    kubectl(&["apply", "--server-side", "--filename", CRD], "")?;
    kubectl(&["wait", "--for=condition=Established", DEFINITION, "--timeout=60s"], "")?;
    kubectl(&["create", "namespace", NAMESPACE], "")?;

    // Beside each other, for most of the time goes into starting kubectl.
    let answers = std::thread::scope(|scope| {
        [valid_specs, invalid_specs, changes]
            .map(|part| scope.spawn(part))
            .map(std::thread::ScopedJoinHandle::join)
    });
    let mut wrong = Vec::new();
    for part in answers {
        wrong.append(&mut part.expect("no part panics")?);
    }
    assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn valid_specs() -> Result<Vec<String>> {
    let refused = |spec: &&str| {
        let said = create(&manifest("main", spec)).err()?;
        Some(format!("refused: {spec}\n  {said}"))
    };
    Ok(valid::SPECS.iter().filter_map(refused).collect())
}

fn invalid_specs() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, spec, path, message) in invalid::NAMES {
        check(&mut wrong, &format!("{name} {spec}"), create(&manifest(name, spec)), path, message);
    }
    for (spec, path, message) in invalid::SPECS {
        check(&mut wrong, spec, create(&manifest("main", spec)), path, message);
    }
    Ok(wrong)
}

fn changes() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (index, (old, news)) in changes::CHANGES.iter().enumerate() {
        let name = format!("from{index}");
        kubectl(&["create", "--filename", "-"], &manifest(&name, old))?;
        for (new, expected) in *news {
            let said = replace(&manifest(&name, new));
            let case = format!("{old} -> {new}");
            match expected {
                Some((path, message)) => check(&mut wrong, &case, said, path, message),
                None => wrong.extend(said.err().map(|said| format!("refused: {case}\n  {said}"))),
            }
        }
    }
    Ok(wrong)
}

/// Refused at one place, with this message, and for no other reason.
fn check(wrong: &mut Vec<String>, case: &str, said: Result<(), String>, path: &str, message: &str) {
    let said = match said {
        Ok(()) => return wrong.push(format!("let in: {case}")),
        Err(said) => said,
    };
    // Of a type that is wrong the server also says that rules could not look at it.
    let causes =
        said.lines().filter(|line| line.starts_with("* ") && !line.contains("rules were not checked"));
    let is_alone = causes.count() < 2;
    if !(is_alone && said.contains(path) && said.contains(message)) {
        wrong.push(format!("{case}\n  expected {path} and {message:?}\n  got {said}"));
    }
}

#[test]
fn the_table_is_as_long_as_promised() {
    let changes = || changes::CHANGES.iter().flat_map(|(_, news)| news.iter());
    let refused = changes().filter(|(_, expected)| expected.is_some()).count();
    let allowed = changes().count() - refused;
    assert!(invalid::NAMES.len() + invalid::SPECS.len() + refused >= 60);
    assert!(valid::SPECS.len() + allowed >= 30);
}

fn manifest(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: taba.dev/v1alpha1, kind: TabaCluster, metadata: {{name: {name}, namespace: {NAMESPACE}}}, \
         spec: {spec}}}\n"
    )
}

fn create(manifest: &str) -> Result<(), String> {
    kubectl(&["create", "--dry-run=server", "--filename", "-"], manifest)
        .map_err(|error| format!("{error:#}"))
}

fn replace(manifest: &str) -> Result<(), String> {
    kubectl(&["replace", "--dry-run=server", "--filename", "-"], manifest)
        .map_err(|error| format!("{error:#}"))
}

fn kubectl(words: &[&str], input: &str) -> Result<()> {
    run_with(&[&["kubectl"], words].concat(), input).map(drop)
}
