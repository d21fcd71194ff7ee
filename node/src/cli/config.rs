use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::runtime::{PublishConfiguration, ShowConfiguration};

use crate::debug;

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, input};

/// Publishes configurations of services, which reach what runs by themselves
#[derive(Args, Debug)]
#[command(after_help = "\
A configuration is a set of variables. What is the same as the newest version is that version, and
nothing happens; anything else is a new one, which replaces the old one replica by replica, behind
the same probes as a deployment. Secrets do not belong here: `skald secret` keeps those.

Example:
  skald config publish web --environment dev --set COLOUR=blue --set LIMIT=20
  skald config publish web --environment dev --file web.env
  skald config list web --environment dev

Next: skald services for what runs")]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Makes these variables the configuration of a service
    #[command(
        after_help = "Example:\n  skald config publish web --environment dev --set COLOUR=blue\n\nNext: skald config show web --environment dev"
    )]
    Publish {
        #[command(flatten)]
        of: Of,
        /// A variable; all that are needed, because they replace what was
        #[arg(long = "set", value_name = "NAME=VALUE")]
        entries: Vec<String>,
        /// A file with one NAME=VALUE per line; lines that begin with # are left out
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Shows a version with its variables
    #[command(
        after_help = "Example:\n  skald config show web --environment dev --version 3\n\nNext: skald config list web --environment dev"
    )]
    Show {
        #[command(flatten)]
        of: Of,
        /// Which version; the newest when not given
        #[arg(long, value_name = "N")]
        version: Option<u64>,
    },
    /// Lists the versions of a service
    #[command(
        after_help = "Example:\n  skald config list web --environment dev\n\nNext: skald config show web --environment dev --version 1"
    )]
    List {
        #[command(flatten)]
        of: Of,
    },
}

#[derive(Args, Debug)]
struct Of {
    /// Name of the service
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
}

impl Of {
    fn version(self, version: Option<u64>) -> ShowConfiguration {
        ShowConfiguration { environment: self.environment, service: self.service, version }
    }
}

pub(super) async fn run(args: Config, ctx: &Ctx) -> Ended {
    match args.what {
        What::Publish { of, entries, file } => {
            let entries = read(&entries, file)?;
            let Of { service, environment } = of;
            let publish = PublishConfiguration { environment, service, entries };
            let published = ctx.connect().await?.publish_configuration(&publish).await?;
            ctx.out.answer(&published, |it, _| match it.new {
                true => format!("published version {} of {}/{}\n", it.version, it.environment, it.service),
                false => format!("it is version {} of {}/{} already\n", it.version, it.environment, it.service),
            });
            ctx.out.next(&format!(
                "next: skald config list {} --environment {}",
                published.service, published.environment
            ));
        }
        What::Show { of, version } => {
            let shown = ctx.connect().await?.configuration(&of.version(version)).await?;
            ctx.out
                .answer(&shown, |it, _| it.entries.iter().map(|(name, value)| format!("{name}={value}\n")).collect());
        }
        What::List { of } => {
            let listed = ctx.connect().await?.configurations(&of.version(None)).await?;
            ctx.out.answer(&listed.versions, |rows, paint| {
                let state = |published, runs| match (published, runs) {
                    (true, true) => "published, runs",
                    (true, false) => "published",
                    (false, true) => "runs",
                    (false, false) => "",
                };
                let cells = rows.iter().map(|row| {
                    let digest = row.digest.chars().take("sha256:".len() + 12).collect();
                    let state = state(row.published, row.runs).to_owned();
                    vec![row.version.to_string(), row.entries.to_string(), digest, state]
                });
                debug::table(&["VERSION", "VARIABLES", "CONTENT", "STATE"], cells.collect(), paint)
            });
        }
    }
    Ok(Ending::Done)
}

/// What stands in the file, with what is set beside it on top.
fn read(entries: &[String], file: Option<PathBuf>) -> Result<BTreeMap<String, String>, Fault> {
    let text = match &file {
        Some(file) => input::read_file(&file.display().to_string())?,
        None => String::new(),
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |text: &str| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(Fault::usage(format!("{text:?} is no variable")).mend("write NAME=VALUE")),
    };
    let all: BTreeMap<_, _> = lines.chain(entries.iter().map(String::as_str)).map(pair).collect::<Result<_, _>>()?;
    if all.is_empty() {
        let mend = "name variables with --set NAME=VALUE, or a file with --file";
        return Err(Fault::usage("there is nothing to publish").mend(mend));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_from_a_file_and_from_words() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# a comment\nA=1\n\nB=x=y\n").unwrap();
        let all = read(&["A=2".into()], Some(file.path().to_owned())).unwrap();
        assert_eq!(all, [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "x=y".to_owned())].into());
        assert_eq!(read(&[], None).unwrap_err().exit, 2);
        assert_eq!(read(&["A".into()], None).unwrap_err().exit, 2);
    }
}
