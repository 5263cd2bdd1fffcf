//! Command lines of the programs that the lab starts, all in one place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemon::Launch;

/// A member of a shard as command lines name it.
#[derive(Clone, Debug)]
pub struct MemberName {
    /// Its letter.
    pub letter: char,
    /// Where its Redis is.
    pub redis: std::net::SocketAddrV4,
    /// Where its keeper is.
    pub keeper: std::net::SocketAddrV4,
}

/// The programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `taba`.
    pub taba: PathBuf,
    /// `taba-keeper`.
    pub keeper: PathBuf,
    /// What is added to the environment of both, such as a mutant's name.
    pub environment: Vec<(String, String)>,
}

/// What all command lines of a lab have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// The programs.
    pub programs: Programs,
    /// Sentinels as `host:port`.
    pub sentinels: Vec<String>,
    /// Names of the shards.
    pub shards: Vec<String>,
    /// Replicas that must hold a write.
    pub min_in_sync: usize,
    /// How many vbuckets there are.
    pub vbuckets: u32,
    /// The folder of configuration and secrets.
    pub conf: PathBuf,
}

impl Common {
    /// The password of a shard: another for each, so that none takes a stranger for its own.
    #[must_use]
    pub fn password(shard: &str) -> String {
        format!("lab-password-5f1c-{shard}")
    }

    /// The file with the password of a shard.
    #[must_use]
    pub fn password_file(&self, shard: &str) -> PathBuf {
        self.conf.join(format!("password-{shard}"))
    }

    /// The file with the passwords of all shards, for servers.
    #[must_use]
    pub fn passwords_file(&self) -> PathBuf {
        self.conf.join("passwords")
    }

    /// Writes the files of passwords and the token.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write_secrets(&self) -> std::io::Result<()> {
        let mut lines = String::new();
        for shard in &self.shards {
            std::fs::write(self.password_file(shard), Self::password(shard))?;
            lines.push_str(&format!("{shard} {}\n", Self::password(shard)));
        }
        std::fs::write(self.passwords_file(), lines)?;
        std::fs::write(self.token_file(), "lab-token-81aa-4c02-9d7e")
    }

    /// The file with the token of the keepers' interface.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.conf.join("token")
    }

    /// A keeper.
    #[must_use]
    pub fn keeper(&self, shard: &str, letter: char, members: &[MemberName], data: &Path) -> Launch {
        let all: Vec<_> = members
            .iter()
            .map(|member| format!("{}={}:{}", member.letter, member.redis, member.keeper.port()))
            .collect();
        let own = members.iter().find(|member| member.letter == letter);
        let mut arguments = words(&["--shard", shard, "--member", &letter.to_string()]);
        arguments.extend(words(&["--members", &all.join(","), "--sentinels", &self.sentinels.join(",")]));
        arguments.extend(words(&["--min-in-sync", &self.min_in_sync.to_string(), "--data", &shown(data)]));
        arguments.extend(words(&["--password-file", &shown(&self.password_file(shard))]));
        arguments.extend(words(&[
            "--token-file",
            &shown(&self.token_file()),
            "--log-level",
            "info,taba_keeper=debug",
        ]));
        if let Some(own) = own {
            arguments.extend(words(&["--listen", &own.keeper.to_string()]));
        }
        self.launch(&self.programs.keeper, arguments)
    }

    /// A server.
    #[must_use]
    pub fn server(&self, roles: &str, listen: std::net::SocketAddrV4) -> Launch {
        let mut arguments = words(&["server", "--roles", roles, "--listen", &listen.to_string()]);
        arguments.extend(words(&["--sentinel", &self.sentinels.join(",")]));
        arguments.extend(words(&["--shards", &self.shards.join(",")]));
        arguments.extend(words(&["--redis-password-file", &shown(&self.passwords_file())]));
        arguments.extend(words(&["--redis-vbuckets", &self.vbuckets.to_string()]));
        arguments.extend(words(&["--drain-timeout", "10s"]));
        // Short intervals, so that faults meet every kind of commit.
        arguments.extend(words(&["--redis-commit-interval", "200ms"]));
        arguments.extend(words(&["--pipeline-aggregate-commit-interval", "200ms"]));
        arguments.extend(words(&["--pipeline-client-commit-interval", "1s"]));
        self.launch(&self.programs.taba, arguments)
    }

    /// An agent.
    #[must_use]
    pub fn agent(&self, listen: std::net::SocketAddrV4, servers: &[String], spool: &Path) -> Launch {
        let mut arguments = words(&["agent", "--listen", &listen.to_string(), "--spool", &shown(spool)]);
        arguments.extend(words(&["--flush-seconds", "0.2", "--server", &servers.join(",")]));
        self.launch(&self.programs.taba, arguments)
    }

    /// A Sentinel over a configuration file that it rewrites itself.
    #[must_use]
    pub fn sentinel(&self, configuration: &Path) -> Launch {
        Launch {
            program: "redis-server".into(),
            arguments: vec![shown(configuration), "--sentinel".to_owned()],
            environment: Vec::new(),
        }
    }

    fn launch(&self, program: &Path, arguments: Vec<String>) -> Launch {
        let mut environment = self.programs.environment.clone();
        environment.push(("RUST_BACKTRACE".to_owned(), "1".to_owned()));
        environment.push(("TABA_LOG_LEVEL".to_owned(), "info".to_owned()));
        Launch { program: program.to_owned(), arguments, environment }
    }
}

/// A Sentinel's first configuration: it watches the first member of every shard.
#[must_use]
pub fn sentinel_configuration(
    own: std::net::SocketAddrV4,
    folder: &Path,
    shards: &[(String, std::net::SocketAddrV4)],
    down_after: Duration,
) -> String {
    let down_after_ms = down_after.as_millis();
    // A failover that got stuck is tried again after twice this.
    let timeout_ms = (3 * down_after_ms).max(4000);
    let (host, port) = (own.ip(), own.port());
    let mut text = format!(
        "bind {host}\nport {port}\nprotected-mode no\ndir {folder}\nsentinel announce-ip {host}\n",
        folder = folder.display()
    );
    for (name, first) in shards {
        text.push_str(&format!(
            "sentinel monitor {name} {} {} 2\nsentinel auth-user {name} sentinel\n\
             sentinel auth-pass {name} {}\nsentinel down-after-milliseconds {name} {down_after_ms}\n\
             sentinel failover-timeout {name} {timeout_ms}\nsentinel parallel-syncs {name} 2\n",
            first.ip(),
            first.port(),
            Common::password(name),
        ));
    }
    text
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
