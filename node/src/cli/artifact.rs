use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::config::PUBLISHED;

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, parts, state};

/// Puts a file where nodes find it, and says the digest that names it
#[derive(Args, Debug)]
#[command(after_help = "\
A file of desired state names what is to run by this digest, in its field `image`. `skald deploy`
does this by itself.

Example:
  skald artifact ./server

Next: write image: sha256:… into environments/ENVIRONMENT/SERVICE.yaml of the repository that
runtime.desired names, or skald deploy web --environment dev --artifact sha256:…")]
pub(super) struct Artifact {
    /// An executable, or a .tar.gz
    file: PathBuf,
    /// Directory of the artifacts, where it is not that of a running `skald up` or of the settings
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

pub(super) fn run(args: Artifact, ctx: &Ctx) -> Ended {
    let digest = put(&args.file, args.artifacts, ctx)?;
    ctx.out.answer(&json!({ "artifact": digest }), |_, _| format!("{digest}\n"));
    Ok(Ending::Done)
}

/// Puts `file` among the artifacts, and says its digest.
pub(super) fn put(file: &Path, dir: Option<PathBuf>, ctx: &Ctx) -> Result<String, Fault> {
    if !file.is_file() {
        return Err(Fault::usage(format!("there is no file {}", file.display()))
            .mend("name a file, or sha256: and the 64 digits of one that was put there before"));
    }
    let digest = parts::put_artifact(&artifacts(dir, ctx)?, file)?;
    Ok(format!("sha256:{digest}"))
}

/// The artifacts directory that is meant.
fn artifacts(named: Option<PathBuf>, ctx: &Ctx) -> Result<PathBuf, Fault> {
    let of_settings = || ctx.config().map(|config| config.artifacts_dir());
    match (named, state::running()) {
        (Some(named), _) => Ok(named),
        (None, Some(state)) => Ok(parts::runtime_dir(&state.data).join(PUBLISHED)),
        (None, None) => of_settings()?.ok_or_else(|| {
            Fault::usage("where artifacts belong is not known")
                .mend("name the directory with --artifacts, set runtime.dir, or start a cluster with `skald up`")
        }),
    }
}
