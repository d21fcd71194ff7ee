use std::path::PathBuf;

use clap::Args;
use protocol::command::Start;
use protocol::view::{SagaView, Status};
use protocol::{SagaKey, Value};

use crate::client::{Client, StartAnswer};
use crate::debug::{self, Paint};

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, follow, parts};

/// Installs an asset of the catalogue with its dependencies into a project
#[derive(Args, Debug)]
#[command(after_help = "\
An installation that fails leaves the target as it was. Ends with 0 when installed, 1 when not.

Example:
  skald install json-kit@^1.2 --target ./my-project --features fast,unicode

Next: skald history KEY for what was done; skald catalog list for what there is")]
pub(super) struct Install {
    /// The asset, with a version range after @; any version when none is given
    #[arg(value_name = "ASSET[@RANGE]")]
    asset: String,
    /// Directory of the project
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// Features of the asset
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    features: Vec<String>,
    /// Name of the saga; the same key is the same installation
    #[arg(long)]
    key: Option<SagaKey>,
    /// Return when it is accepted instead of watching it
    #[arg(long)]
    detach: bool,
}

/// What to install where.
pub(super) struct Wanted {
    pub(super) key: SagaKey,
    pub(super) input: Value,
}

/// The start of an installation; the target is made absolute, because nodes stand elsewhere.
pub(super) fn wanted(
    asset: &str,
    target: &std::path::Path,
    features: &[String],
    key: Option<SagaKey>,
) -> Result<Wanted, Fault> {
    let (name, range) = asset.split_once('@').unwrap_or((asset, "*"));
    if name.is_empty() || range.is_empty() {
        return Err(
            Fault::usage(format!("{asset:?} is not an asset")).mend("write NAME or NAME@RANGE, as in json-kit@^1.2")
        );
    }
    let target = std::fs::canonicalize(target).map_err(|error| {
        Fault::usage(format!("the target {} is not there", target.display())).why(error.to_string())
    })?;
    let fresh = || {
        let id = uuid::Uuid::now_v7().simple().to_string();
        format!("install-{name}-{}", &id[id.len() - 8..])
    };
    let key = match key {
        Some(key) => key,
        None => SagaKey::new(fresh()).map_err(|error| Fault::usage(error.to_string()))?,
    };
    let input = serde_json::json!({
        "assetId": name, "version": range, "target": target, "features": features,
    });
    Ok(Wanted { key, input })
}

/// Starts the installation; the same key again is the same one.
pub(super) async fn begin(client: &Client, wanted: &Wanted) -> Result<StartAnswer, Fault> {
    let start = Start {
        definition: parts::INSTALL_DEFINITION.into(),
        version: None,
        key: Some(wanted.key.clone()),
        input: wanted.input.clone(),
        wait_ms: None,
    };
    Ok(client.start(&start).await?)
}

pub(super) async fn run(args: Install, ctx: &Ctx) -> Ended {
    let wanted = wanted(&args.asset, &args.target, &args.features, args.key)?;
    let client = ctx.connect().await?;
    let answer = begin(&client, &wanted).await?;
    if args.detach {
        ctx.out.answer(&answer, |_, paint| format!("accepted: {}\n", paint.strong(wanted.key.as_str())));
        ctx.out.next(&format!("next: skald wait {}", wanted.key));
        return Ok(Ending::Done);
    }
    let view = follow::until_end(&client, &wanted.key, None, ctx).await?;
    ctx.out.answer(&view, render);
    let ending = follow::ending(view.status);
    ctx.out.next(&format!("next: skald history {}", wanted.key));
    Ok(ending)
}

/// What was installed as a table, or why nothing was.
pub(super) fn render(view: &SagaView, paint: Paint) -> String {
    let Some(outcome) = &view.outcome else { return debug::render_saga(view, paint) };
    let output = outcome.output.as_ref();
    let list = ["installed", "artifacts", "applied"].iter().find_map(|name| output?.get(name)?.as_array());
    match (outcome.status, list) {
        (Status::Succeeded, Some(list)) => {
            let cell = |row: &Value, names: &[&str]| {
                let found = names.iter().find_map(|name| row.get(name));
                found.map_or(String::new(), |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            let cells = list.iter().map(|row| {
                let checksum: String = cell(row, &["checksum", "digest", "sha256"]).chars().take(16).collect();
                let license = cell(row, &["license"]);
                vec![cell(row, &["name", "assetId", "asset"]), cell(row, &["version"]), license, checksum]
            });
            let table = debug::table(&["ASSET", "VERSION", "LICENCE", "CHECKSUM"], cells.collect(), paint);
            format!("{}\n{table}", paint.good("installed"))
        }
        (_, _) => debug::render_outcome(outcome, paint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_named_with_its_range() {
        let dir = tempfile::tempdir().unwrap();
        let input = |asset| wanted(asset, dir.path(), &[], None).map(|wanted| wanted.input);
        assert_eq!(input("json-kit@^1.2").unwrap()["version"], "^1.2");
        assert_eq!(input("json-kit").unwrap()["version"], "*");
        for bad in ["@1", "json-kit@", ""] {
            assert_eq!(input(bad).unwrap_err().exit, 2, "{bad:?}");
        }
        let gone = wanted("a", std::path::Path::new("/no/such/dir"), &[], None).err().unwrap();
        assert!(gone.what.contains("/no/such/dir"));
    }
}
