//! Runs Pulumi's command line with a bound on everything: time, what it says, what it is told.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use supervisor::activity::Failure;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// The most that one answer may have, in bytes: a preview of some thousand resources.
const ANSWER_MAX_BYTES: u64 = 64 << 20;
/// The most of what is said to a person that is kept, in bytes: errors stand at its end.
const SAID_MAX_BYTES: usize = 16 << 10;
/// How long Pulumi may take to end after it was interrupted: it finishes the resource it is at, and
/// writes down what is there. Killed at once it would leave resources that nobody knows of.
const INTERRUPTED: Duration = Duration::from_secs(60);

/// Pulumi in one project.
#[derive(Debug, Clone)]
pub struct Cli {
    /// The program.
    pub program: PathBuf,
    /// The directory with `Pulumi.yaml`.
    pub project: PathBuf,
    /// All that it finds in its environment.
    pub variables: BTreeMap<String, String>,
    /// How long one command may take.
    pub time: Duration,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// Whether it succeeded.
    pub ok: bool,
    /// What it answered.
    pub out: Vec<u8>,
    /// The end of what it said to a person.
    pub said: String,
}

/// Interrupts Pulumi, and whatever it started, unless it ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Nobody waits any more. It is interrupted, not killed: see `INTERRUPTED`.
            kill_process_group(leader, Signal::INT).ok();
        }
    }
}

impl Cli {
    /// Runs a command, none of which any shell reads.
    pub async fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        let verb = arguments.iter().take_while(|word| !word.starts_with('-')).copied().collect::<Vec<_>>().join(" ");
        if !self.project.join("Pulumi.yaml").is_file() {
            let why = format!("{} holds no Pulumi.yaml; set runtime.pulumi_project", self.project.display());
            return Err(Failure::named("BadProject", why));
        }
        match self.ended(arguments).await {
            Ok(Some(answer)) if answer.out.len() as u64 > ANSWER_MAX_BYTES => {
                let why = format!("pulumi {verb} answers more than {ANSWER_MAX_BYTES} bytes; make the stack smaller");
                Err(Failure::named("ProvisioningFailed", why))
            }
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let why = format!("no end after {:?}; raise runtime.pulumi_within_ms", self.time);
                Err(Failure::transient(&format!("waiting for pulumi {verb}"), why))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why =
                    format!("{} is not there; install Pulumi, or set runtime.pulumi_program", self.program.display());
                Err(Failure::named("PulumiMissing", why))
            }
            Err(error) => Err(Failure::transient(&format!("running pulumi {verb}"), error)),
        }
    }

    /// As `run`; what does not succeed has a name.
    pub async fn done(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        match self.run(arguments).await? {
            answer if answer.ok => Ok(answer.out),
            answer => Err(refusal(&answer)),
        }
    }

    async fn ended(&self, arguments: &[&str]) -> io::Result<Option<Answer>> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .args(["--non-interactive", "--color=never", "--cwd"])
            .arg(&self.project)
            .env_clear()
            .envs(&self.variables)
            .env("PULUMI_SKIP_UPDATE_CHECK", "true")
            // Saved plans are still called an experiment.
            .env("PULUMI_EXPERIMENTAL", "true")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut group = Group(leader);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut whole = std::pin::pin!(async move {
            let (out, said) = tokio::join!(first(stdout), last(stderr));
            let (out, said) = (out?, said?);
            io::Result::Ok(Answer { ok: child.wait().await?.success(), out, said })
        });
        let answer = match timeout(self.time, whole.as_mut()).await {
            Ok(answer) => Some(answer?),
            Err(_) => {
                if let Some(leader) = leader {
                    kill_process_group(leader, Signal::INT).ok();
                }
                if timeout(INTERRUPTED, whole.as_mut()).await.is_err()
                    && let Some(leader) = leader
                {
                    kill_process_group(leader, Signal::KILL).ok();
                }
                None
            }
        };
        group.0 = None;
        Ok(answer)
    }
}

/// What an answer that is no success means.
pub fn refusal(answer: &Answer) -> Failure {
    // With --json what went wrong is told with the rest.
    let out = String::from_utf8_lossy(&answer.out);
    let told = out.char_indices().rev().nth(2_000).map_or(&*out, |(at, _)| &out[at..]);
    let lines = answer.said.lines().chain(told.lines()).map(str::trim).filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join("; ");
    let says = |any: &[&str]| any.iter().any(|part| text.contains(part));
    if says(&["currently locked by", "Another update is currently in progress"]) {
        let why = format!("{text}; if nobody works on the stack, run `pulumi cancel`");
        return Failure::transient("provisioning", why);
    }
    let (name, mend) = if says(&["violates plan", "violated plan", "does not match plan"]) {
        ("PreviewChanged", "decide on a new preview")
    } else if says(&["pulumi login", "PULUMI_ACCESS_TOKEN", "passphrase must be set", "incorrect passphrase"]) {
        ("NotLoggedIn", "give Pulumi its login: see runtime.pulumi_variables")
    } else {
        ("ProvisioningFailed", "mend what it says and decide on a new preview")
    };
    Failure::named(name, format!("{text}; {mend}"))
}

/// The first that `from` says, a little more than it may.
async fn first(from: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(ANSWER_MAX_BYTES + 1).read_to_end(&mut bytes).await?;
        // Read to its end, or the speaker would wait for ever.
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// The end of what `from` says.
async fn last(from: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut from) = from else { return Ok(String::new()) };
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match from.read(&mut buffer).await? {
            0 => return Ok(String::from_utf8_lossy(&kept).into_owned()),
            count => kept.extend_from_slice(&buffer[..count]),
        }
        let extra = kept.len().saturating_sub(SAID_MAX_BYTES);
        kept.drain(..extra);
    }
}

/// Variables of ours by name, and the two that every program needs.
pub fn variables(names: &[String]) -> BTreeMap<String, String> {
    let named = names.iter().map(String::as_str).chain(["PATH", "HOME"]);
    named.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect()
}

/// A path as an argument.
pub fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::named("BadProject", format!("{path:?} is no text; use another directory")))
}
