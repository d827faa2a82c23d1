//! `cargo mutants-check`: removes each defence and runs the test that must fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use serde::Serialize;
use tokio::process::Command;

use tidy::{
    mutations::{Mutation, table},
    workspace_dir,
};

/// A mutated test that runs longer hangs, which is noticed too.
const TEST_LIMIT: Duration = Duration::from_secs(300);

/// Remove each defence from the product, one by one, and run the test that must fail
///
/// Works on a copy of the sources with a target directory of its own, under target/mutants-check;
/// the working tree is only read. Prints a line for each: row, patch, caught or missed.
///
/// Exit codes: 0 all caught, 1 some missed or some patch does not apply or compile.
#[derive(Debug, Parser)]
#[command(name = "mutants-check")]
pub struct Options {
    /// Only rows or patches whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
    /// Print rows, patches and tests, and run nothing
    #[arg(long)]
    pub list: bool,
    /// Print one JSON object for each patch
    #[arg(long)]
    pub json: bool,
    /// Folder of the copy and the build [default: target/mutants-check]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// Result of one patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The test failed, as it should.
    Caught,
    /// The test passed: nothing defends this row.
    Missed,
    /// No result: the patch does not apply, does not compile, or its test fails or is
    /// missing without it.
    Error(String),
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    row: &'a str,
    patch: &'a str,
    test: &'a str,
    outcome: Outcome,
}

/// Runs the patches; returns whether all were caught.
///
/// # Errors
///
/// When the table cannot be read, the copy cannot be made, or the sources do not build as they are.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let wanted = |mutation: &Mutation| {
        let named = |text: &String| mutation.row.contains(text) || mutation.patch.contains(text);
        options.only.is_empty() || options.only.iter().any(named)
    };
    let mutations: Vec<_> = table()?.mutation.into_iter().filter(wanted).collect();
    ensure!(!mutations.is_empty(), "no row and no patch has such a name");
    if options.list {
        mutations
            .iter()
            .for_each(|it| crate::print_line!("{:36}  {:36}  {}", it.row, it.patch, it.test));
        return Ok(true);
    }
    let scratch = Scratch::new(options.scratch.as_deref())?;
    scratch.copy().await?;
    let unhealthy = scratch.baseline(&mutations).await?;
    let mut all_caught = true;
    for (number, mutation) in (1..).zip(&mutations) {
        proto_cli::note!("{number}/{}  {}: {}", mutations.len(), mutation.patch, mutation.says);
        let outcome = if unhealthy.contains(&mutation.test) {
            Outcome::Error("the test fails without the patch".to_owned())
        } else {
            scratch.try_patch(mutation).await?
        };
        all_caught &= outcome == Outcome::Caught;
        let (row, patch, test) = (&*mutation.row, &*mutation.patch, &*mutation.test);
        print(&Line { row, patch, test, outcome }, options.json)?;
    }
    Ok(all_caught)
}

fn print(line: &Line<'_>, json: bool) -> anyhow::Result<()> {
    if json {
        crate::print_line!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let outcome = match &line.outcome {
        Outcome::Caught => "caught".to_owned(),
        Outcome::Missed => "MISSED".to_owned(),
        Outcome::Error(reason) => format!("ERROR {reason}"),
    };
    crate::print_line!("{:36}  {:36}  {outcome}", line.row, line.patch);
    Ok(())
}

/// A program of tests.
struct TestProgram {
    executable: PathBuf,
    /// The directory of its package, in which cargo would run it.
    directory: PathBuf,
}

/// A copy of the sources, and what is built of it.
struct Scratch {
    tree: PathBuf,
    target: PathBuf,
}

impl Scratch {
    fn new(folder: Option<&Path>) -> anyhow::Result<Self> {
        let default = || workspace_dir().join("target/mutants-check");
        let folder = folder.map_or_else(default, Path::to_owned);
        let scratch = Self { tree: folder.join("tree"), target: folder.join("target") };
        fs::create_dir_all(&scratch.tree)
            .with_context(|| format!("make {}", scratch.tree.display()))?;
        Ok(scratch)
    }

    /// Brings the copy up to date; what is equal keeps its time, so that little is built again.
    async fn copy(&self) -> anyhow::Result<()> {
        let listed = Command::new("git")
            .current_dir(workspace_dir())
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .await
            .context("run git")?;
        ensure!(listed.status.success(), "git cannot list the sources");
        let names = String::from_utf8(listed.stdout).context("names of the sources")?;
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (workspace_dir().join(name), self.tree.join(name));
            // A file that was deleted and not yet committed is still listed.
            let Ok(octets) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|held| held == octets) {
                continue;
            }
            let parent = to.parent().context("a file lies in a folder")?;
            fs::create_dir_all(parent)?;
            fs::write(&to, octets).with_context(|| format!("write {}", to.display()))?;
        }
        Ok(())
    }

    /// Returns the tests that fail on the sources as they are.
    async fn baseline(&self, mutations: &[Mutation]) -> anyhow::Result<BTreeSet<String>> {
        let mut programs: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for mutation in mutations {
            let program = (&*mutation.package, &*mutation.program);
            programs.entry(program).or_default().insert(&mutation.test);
        }
        let mut failing = BTreeSet::new();
        for ((package, program), tests) in programs {
            proto_cli::note!("building {package} {program}");
            let built = match self.build(package, program).await? {
                Ok(built) => built,
                Err(reason) => bail!("{package} does not build: {reason}"),
            };
            for test in tests {
                if self.passes(&built, test).await? != Some(true) {
                    failing.insert(test.to_owned());
                }
            }
        }
        Ok(failing)
    }

    async fn try_patch(&self, mutation: &Mutation) -> anyhow::Result<Outcome> {
        let applied = self.apply(mutation, &[]).await?;
        if !applied.status.success() {
            let said = String::from_utf8_lossy(&applied.stderr).trim().to_owned();
            return Ok(Outcome::Error(format!("the patch does not apply: {said}")));
        }
        let outcome = self.test_outcome(mutation).await;
        let back = self.apply(mutation, &["--reverse"]).await?;
        ensure!(back.status.success(), "{} cannot be taken back", mutation.patch);
        outcome
    }

    async fn test_outcome(&self, mutation: &Mutation) -> anyhow::Result<Outcome> {
        let built = match self.build(&mutation.package, &mutation.program).await? {
            Ok(built) => built,
            Err(reason) => return Ok(Outcome::Error(format!("it does not compile: {reason}"))),
        };
        Ok(match self.passes(&built, &mutation.test).await? {
            Some(true) => Outcome::Missed,
            Some(false) => Outcome::Caught,
            None => Outcome::Error("there is no such test".to_owned()),
        })
    }

    async fn apply(&self, mutation: &Mutation, flags: &[&str]) -> anyhow::Result<Output> {
        let mut git = Command::new("git");
        git.current_dir(&self.tree)
            // The copy lies below a repository and is none itself.
            .env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree))
            .arg("apply")
            .args(flags)
            .arg(mutation.path());
        git.output().await.context("run git")
    }

    /// Returns the test program, or the compiler's first complaint.
    async fn build(
        &self,
        package: &str,
        program: &str,
    ) -> anyhow::Result<Result<TestProgram, String>> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut build = Command::new(cargo);
        build
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            // Everything but the decoder is compiled more often than it is run.
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
            .args(["test", "--locked", "--quiet", "--no-run", "--package", package])
            .args(["--message-format", "json-render-diagnostics"]);
        match program {
            "lib" => build.arg("--lib"),
            program => build.args(["--test", program]),
        };
        let output = build.output().await.context("run cargo")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().find(|line| line.starts_with("error")).unwrap_or_default();
            return Ok(Err(first.to_owned()));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        let executable = said
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message.pointer("/profile/test") == Some(&true.into()))
            .find_map(|message| {
                let manifest = Path::new(message.get("manifest_path")?.as_str()?);
                let executable = PathBuf::from(message.get("executable")?.as_str()?);
                Some(TestProgram { executable, directory: manifest.parent()?.to_owned() })
            });
        executable.map(Ok).context("cargo names no test program")
    }

    /// Returns whether the test passes; `None` when the program does not have it.
    async fn passes(&self, program: &TestProgram, test: &str) -> anyhow::Result<Option<bool>> {
        let TestProgram { executable, directory } = program;
        let mut command = Command::new(executable);
        command
            .current_dir(directory)
            // As cargo sets it for its tests.
            .env("CARGO_MANIFEST_DIR", directory)
            .env("RUST_BACKTRACE", "0")
            // Logs of a product without its defences are not collected.
            .env_remove(test_log::DIR_VARIABLE)
            .args(["--exact", test])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let Ok(output) = tokio::time::timeout(TEST_LIMIT, command.output()).await else {
            return Ok(Some(false));
        };
        let output = output.with_context(|| format!("run {}", executable.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("running 0 tests") {
            return Ok(None);
        }
        Ok(Some(output.status.success()))
    }
}
