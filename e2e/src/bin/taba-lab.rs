//! The lab's program: `taba-lab up`, commands to a lab that is up, and `taba-lab faults`. It also runs
//! itself inside sandboxes. People call it as `cargo xtask lab` and `cargo xtask faults`, which build it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks on both")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt as _};
use taba_e2e::lab::argv::Programs;
use taba_e2e::lab::campaign::{self, Failure, Listener, MUTANTS};
use taba_e2e::lab::cluster::{Cluster, Size};
use taba_e2e::lab::control;
use taba_e2e::lab::fault::Kind;
use taba_e2e::lab::net::Mode;
use taba_e2e::lab::plan::Plan;
use taba_e2e::lab::report::Outcome;
use taba_e2e::lab::run;
use taba_e2e::lab::sandbox::{self, Found, Sandbox};
use taba_e2e::lab::timeline::Timeline;
use taba_e2e::process::mutant_programs;

const USAGE: &str = "\
usage: taba-lab up [--shards N] [--replicas N] [--frontends N] [--backends N] [--down-after SECONDS]
       taba-lab exec -- PROGRAM [ARGUMENT]...
       taba-lab down
       taba-lab COMMAND...
       taba-lab faults [--runs N] [--seed S] [--parallel P] [--json] [--markdown] [--fault KIND]
                       [--down-after SECONDS] [--mutant NAME] [--programs FOLDER] [--loopback] [--keep]

COMMAND to a lab that is up:
";

/// How long `up` waits.
const UP_PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    match start(Parser::from_env()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(mut arguments: Parser) -> Result<ExitCode> {
    let task = match arguments.next()? {
        Some(Value(task)) => task.string()?,
        Some(Long("help") | Short('h')) => {
            println!("{USAGE}{}", control::COMMANDS);
            return Ok(ExitCode::SUCCESS);
        }
        _ => bail!("no task given\n\n{USAGE}{}", control::COMMANDS),
    };
    match task.as_str() {
        "up" => up(arguments)?,
        "down" => down()?,
        "exec" => return exec(&mut arguments),
        "faults" => return faults(arguments),
        "inside-run" => inside_run(arguments)?,
        "inside-up" => inside_up(arguments)?,
        command => {
            let mut words = vec![command.to_owned()];
            while let Some(word) = arguments.next()? {
                match word {
                    Value(word) => words.push(word.string()?),
                    other => return Err(other.unexpected().into()),
                }
            }
            print!("{}", control::send(&newest()?.folder, &words.join(" "))?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(arguments: Parser) -> Result<()> {
    sweep()?;
    let inside = Inside::parse(arguments)?;
    let (mode, why) = sandbox::best_mode();
    if let Some(why) = why {
        eprintln!("no namespaces on this machine ({why}): the lab runs on loopback, without faults of links");
    }
    let mut words = vec!["inside-up".to_owned()];
    words.extend(inside.words());
    let mut sandbox = Sandbox::start(&own_path()?, mode, &words, false)?;
    let ready = sandbox.folder().join(control::READY);
    let deadline = Instant::now() + UP_PATIENCE;
    while !ready.exists() {
        if !sandbox.is_running() || Instant::now() > deadline {
            let log = std::fs::read_to_string(sandbox.folder().join("lab.log")).unwrap_or_default();
            let folder = sandbox.keep("up")?;
            bail!("the lab did not start: {log}\nlogs: {}", folder.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{}", std::fs::read_to_string(&ready).context("read the lab's page")?);
    println!("logs: {}", sandbox.leave().join("logs").display());
    Ok(())
}

fn down() -> Result<()> {
    sweep()?;
    let up: Vec<_> = sandbox::labs().into_iter().filter(Found::is_up).collect();
    for lab in &up {
        lab.remove()?;
        println!("removed {}", lab.folder.display());
    }
    if up.is_empty() {
        println!("no lab is up");
    }
    Ok(())
}

fn sweep() -> Result<()> {
    for folder in sandbox::sweep()? {
        eprintln!("removed what a killed lab left: {}", folder.display());
    }
    Ok(())
}

fn newest() -> Result<Found> {
    sandbox::labs().into_iter().rfind(Found::is_up).context("no lab is up: start one with `up`")
}

/// Runs a program inside the lab's network.
fn exec(arguments: &mut Parser) -> Result<ExitCode> {
    let words: Vec<OsString> = arguments.raw_args()?.filter(|word| word != "--").collect();
    let [program, rest @ ..] = words.as_slice() else { bail!("exec takes a program") };
    let lab = newest()?;
    let outer = lab.lab.context("the lab runs")?;
    let mut command = Command::new("nsenter");
    match outer.child() {
        Some(first) => {
            command.args(["--target", &first.to_string(), "--net", "--mount", "--pid", "--wd=/"]);
            if !rustix::process::geteuid().is_root() {
                command.args(["--user", "--preserve-credentials"]);
            }
            command.arg("--").arg(program);
        }
        None => bail!("the lab has no namespaces: run the program as it is"),
    }
    let status = command.args(rest).status().context("run nsenter")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// What a lab inside a sandbox is told.
struct Inside {
    size: Size,
    programs: PathBuf,
    folder: PathBuf,
    mode: Mode,
    seed: u64,
    kind: Option<Kind>,
    mutant: Option<String>,
    tethered: bool,
}

impl Inside {
    fn parse(mut arguments: Parser) -> Result<Self> {
        let mut inside = Self {
            size: Size::default(),
            programs: own_folder()?,
            folder: PathBuf::new(),
            mode: Mode::Namespaces,
            seed: 0,
            kind: None,
            mutant: None,
            tethered: false,
        };
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("shards") => inside.size.shards = arguments.value()?.parse()?,
                Long("replicas") => inside.size.replicas = arguments.value()?.parse()?,
                Long("frontends") => inside.size.frontends = arguments.value()?.parse()?,
                Long("backends") => inside.size.backends = arguments.value()?.parse()?,
                Long("down-after") => inside.size.down_after = seconds(&mut arguments)?,
                Long("down-after-ms") => {
                    inside.size.down_after = Duration::from_millis(arguments.value()?.parse()?);
                }
                Long("programs") => inside.programs = arguments.value()?.into(),
                Long("folder") => inside.folder = arguments.value()?.into(),
                Long("mode") => inside.mode = Mode::parse(&arguments.value()?.string()?)?,
                Long("seed") => inside.seed = arguments.value()?.parse()?,
                Long("kind") => inside.kind = Some(kind(&arguments.value()?.string()?)?),
                Long("mutant") => inside.mutant = Some(arguments.value()?.string()?),
                Long("tethered") => inside.tethered = true,
                other => return Err(other.unexpected().into()),
            }
        }
        if inside.size.shards == 0 || inside.size.frontends == 0 || inside.size.backends == 0 {
            bail!("a Taba has at least one shard, one frontend and one backend");
        }
        Ok(inside)
    }

    /// As it is given to the same program inside.
    fn words(&self) -> Vec<String> {
        let size = &self.size;
        [
            ("--shards", size.shards.to_string()),
            ("--replicas", size.replicas.to_string()),
            ("--frontends", size.frontends.to_string()),
            ("--backends", size.backends.to_string()),
            ("--down-after-ms", size.down_after.as_millis().to_string()),
            ("--programs", self.programs.to_string_lossy().into_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    fn programs(&self) -> Programs {
        let mutant = self.mutant.iter().map(|name| ("TABA_MUTANT".to_owned(), name.clone()));
        Programs {
            taba: self.programs.join("taba"),
            keeper: self.programs.join("taba-keeper"),
            environment: mutant.collect(),
        }
    }
}

fn inside_run(arguments: Parser) -> Result<()> {
    let inside = Inside::parse(arguments)?;
    if inside.tethered {
        sandbox::tether();
    }
    let plan = inside.kind.map_or_else(|| Plan::new(inside.seed), |kind| Plan::of_kind(kind, inside.seed));
    let plan = plan.possible(inside.mode);
    let options =
        run::Options { plan, mode: inside.mode, programs: inside.programs(), size: inside.size.clone() };
    let outcome = run::run(&inside.folder, &options);
    println!("{}", outcome.json());
    Ok(())
}

fn inside_up(arguments: Parser) -> Result<()> {
    let inside = Inside::parse(arguments)?;
    let timeline = Arc::new(Timeline::aloud());
    let programs = inside.programs();
    let cluster = Cluster::new(&inside.folder, inside.mode, inside.size, programs, false, timeline)?;
    control::serve(&inside.folder, &Arc::new(cluster))
}

/// What to print of a campaign.
struct Printer {
    json: bool,
    /// One run's lines are not torn apart by another's.
    output: Mutex<()>,
}

impl Listener for Printer {
    fn finished(&self, outcome: &Outcome, failure: Option<&Failure>) {
        let _alone = self.output.lock().expect("no holder of this lock panics");
        if let Some(Failure { timeline, folder }) = failure {
            eprintln!("seed {} FAILED\n{timeline}", outcome.seed);
            outcome.errors.iter().for_each(|error| eprintln!("error: {error}"));
            eprintln!(
                "logs: {}\nrepeat: cargo xtask faults --runs 1 --seed {}\n",
                folder.display(),
                outcome.seed
            );
        }
        if self.json {
            println!("{}", outcome.json());
        } else {
            let names: Vec<_> = outcome.faults.iter().map(|kind| kind.name()).collect();
            eprintln!(
                "seed {:<6} {:<6} {:>7} acknowledged, gap {:>5} ms, whole after {:>5} ms: {}",
                outcome.seed,
                if outcome.is_ok() { "ok" } else { "FAILED" },
                outcome.acknowledged,
                outcome.gap_ms,
                outcome.convergence_ms,
                names.join(", ")
            );
        }
    }

    fn note(&self, what: &str) {
        eprintln!("{what}");
    }
}

fn faults(mut arguments: Parser) -> Result<ExitCode> {
    let mut options = campaign::Options::new(20, 1, PathBuf::new());
    let mut programs = None;
    let (mut json, mut markdown) = (false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("runs") => options.runs = arguments.value()?.parse()?,
            Long("seed") => options.seed = arguments.value()?.parse()?,
            Long("parallel") => options.parallel = arguments.value()?.parse()?,
            Long("fault") => options.kind = Some(kind(&arguments.value()?.string()?)?),
            Long("down-after") => options.down_after = seconds(&mut arguments)?,
            Long("mutant") => options.mutant = Some(mutant(arguments.value()?.string()?)?),
            Long("programs") => programs = Some(PathBuf::from(arguments.value()?)),
            Long("help") => {
                print!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            Long("loopback") => options.mode = Some(Mode::Loopback),
            Long("keep") => options.keep = true,
            Long("json") => json = true,
            Long("markdown") => markdown = true,
            other => return Err(other.unexpected().into()),
        }
    }
    options.programs = match programs {
        Some(folder) => folder,
        None if options.mutant.is_some() => mutant_programs().to_owned(),
        None => own_folder()?,
    };
    let printer = Printer { json, output: Mutex::new(()) };
    let summary = campaign::run(&own_path()?, &options, &printer)?;
    if markdown {
        print!("{}", summary.markdown());
    }
    eprintln!("{}", summary.line());
    campaign::judge(&summary, &options)?;
    if let Some(mutant) = &options.mutant {
        eprintln!("mutant {mutant} was caught in run {}", summary.outcomes().len());
    }
    Ok(ExitCode::SUCCESS)
}

fn kind(name: &str) -> Result<Kind> {
    let names = || Kind::all().map(Kind::name).collect::<Vec<_>>().join(", ");
    Kind::parse(name).with_context(|| format!("no fault {name:?}; there are {}", names()))
}

fn mutant(name: String) -> Result<String> {
    if MUTANTS.contains(&name.as_str()) {
        return Ok(name);
    }
    bail!("no mutant {name:?}; there are {}", MUTANTS.join(", "))
}

fn seconds(arguments: &mut Parser) -> Result<Duration> {
    let seconds: f64 = arguments.value()?.parse().context("expected seconds")?;
    Duration::try_from_secs_f64(seconds).context("expected seconds")
}

fn own_path() -> Result<PathBuf> {
    std::env::current_exe().context("find this program")
}

fn own_folder() -> Result<PathBuf> {
    Ok(own_path()?.parent().map(Path::to_owned).unwrap_or_default())
}
