//! Which cluster commands go to: the one of this machine if it is up, else the one that a kubeconfig names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::layout::{self, Layout};
use super::programs::Programs;
use super::{cgroup, launch};
use crate::{process, system};

/// A cluster that commands can go to.
#[derive(Debug)]
pub enum Access {
    /// The test cluster of this machine.
    Own {
        /// kubectl and Helm.
        programs: Programs,
        /// The process whose network the API server is in.
        control: u32,
    },
    /// Somebody's cluster.
    Given {
        /// As `KUBECONFIG` has it, so possibly several files.
        kubeconfig: OsString,
    },
}

impl Access {
    /// The cluster of this machine, if there is one.
    pub fn own() -> Option<Self> {
        let control = cgroup::first_process("control/holder")?;
        Some(Self::Own { programs: Programs::locate().ok()?, control })
    }

    /// The cluster of a kubeconfig, if one is named or in its usual place, and answers.
    ///
    /// # Errors
    /// If one is named by `KUBECONFIG` and does not answer: then nothing else was meant.
    pub fn given() -> Result<Option<Self>> {
        let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
        let usual =
            || std::env::home_dir().map(|home| home.join(".kube/config")).filter(|file| file.is_file());
        let Some(kubeconfig) = named.clone().or_else(|| usual().map(PathBuf::into_os_string)) else {
            return Ok(None);
        };
        let given = Self::Given { kubeconfig: kubeconfig.clone() };
        let why = match given.kubectl() {
            Ok(mut kubectl) => {
                let asked = kubectl.args(["--request-timeout=10s", "get", "--raw", "/readyz"]);
                if process::succeeds(asked) {
                    return Ok(Some(given));
                }
                "its cluster does not answer".to_owned()
            }
            Err(error) => format!("{error:#}"),
        };
        let file = Path::new(&kubeconfig).display();
        if named.is_some() {
            bail!("KUBECONFIG names {file}, but {why}; unset it to have a cluster made on this machine");
        }
        eprintln!("{file} is not used: {why}");
        Ok(None)
    }

    /// The one or the other.
    ///
    /// # Errors
    /// If there is neither.
    pub fn find() -> Result<Self> {
        if let Some(own) = Self::own() {
            return Ok(own);
        }
        Self::given()?.context("no cluster is there (or this is not root): run `cargo xtask up` first")
    }

    /// kubectl, its arguments to be added.
    pub fn kubectl(&self) -> Result<Command> {
        self.tool("kubectl")
    }

    /// Helm, its arguments to be added.
    pub fn helm(&self) -> Result<Command> {
        self.tool("helm")
    }

    /// `kubectl` or `helm`, in the workspace's root and without input.
    pub fn tool(&self, name: &str) -> Result<Command> {
        match self {
            Self::Own { programs, control } => {
                let mut command = launch::tool(*control, false)?;
                match name {
                    "kubectl" => command.arg(programs.kubernetes()).arg("kubectl"),
                    _ => command.arg(programs.helm()),
                };
                command.env("KUBECONFIG", Layout::new(layout::NODES_MAX).kubeconfig("admin"));
                Ok(command)
            }
            Self::Given { kubeconfig } => {
                let program =
                    system::find(name).with_context(|| format!("{name} is not on the search path"))?;
                let mut command = process::program(program);
                command.env("KUBECONFIG", kubeconfig);
                Ok(command)
            }
        }
    }

    /// Whether it is somebody's cluster, to which images come through a registry.
    pub const fn is_given(&self) -> bool {
        matches!(self, Self::Given { .. })
    }
}
