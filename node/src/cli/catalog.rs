use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::{Tenant, Time};

use crate::debug;

use super::context::Ctx;
use super::fault::Fault;
use super::parts::{self, Entitlement};
use super::{Ended, Ending, duration, state};

/// Fills and lists the catalogue that assets are installed from
#[derive(Args, Debug)]
#[command(after_help = "\
The catalogue is a directory that all nodes share: that of a running `skald up`, or catalog.dir of
the settings, or the one named with --catalog.

Example:
  skald catalog import ./vendor
  skald catalog list
  skald catalog license grant json-kit --seats 5

Next: skald install NAME@RANGE --target DIR")]
pub(super) struct Catalog {
    /// Directory of the catalogue
    #[arg(long, value_name = "DIR", global = true)]
    catalog: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Imports every .crate archive below a directory
    #[command(after_help = "Example:\n  skald catalog import ./vendor\n\nNext: skald catalog list")]
    Import {
        /// Where the archives are
        dir: PathBuf,
    },
    /// Lists what can be installed
    #[command(after_help = "Example:\n  skald catalog list\n\nNext: skald install NAME@RANGE --target DIR")]
    List,
    /// Says which tenant may install what
    #[command(
        after_help = "Example:\n  skald catalog license grant json-kit --seats 5 --for 30d --tenant acme\n\nNext: skald install json-kit --target DIR --tenant acme"
    )]
    License {
        #[command(subcommand)]
        what: License,
    },
}

#[derive(Subcommand, Debug)]
enum License {
    /// Gives the tenant the right to install an asset
    #[command(
        after_help = "Example:\n  skald catalog license grant json-kit --seats 5 --for 30d\n\nNext: skald catalog license list"
    )]
    Grant {
        /// Name of the asset
        asset: String,
        /// How many installations at once; no limit when not set
        #[arg(long, value_name = "N")]
        seats: Option<u32>,
        /// For how long, such as 30d; for good when not set
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
        lasting: Option<std::time::Duration>,
    },
    /// Takes it away; what is installed stays
    #[command(after_help = "Example:\n  skald catalog license revoke json-kit\n\nNext: skald catalog license list")]
    Revoke {
        /// Name of the asset
        asset: String,
    },
    /// Lists the tenant's rights
    #[command(
        after_help = "Example:\n  skald catalog license list --tenant acme\n\nNext: skald install NAME --target DIR"
    )]
    List,
}

/// The catalogue that is meant.
fn dir(named: Option<PathBuf>, ctx: &Ctx) -> Result<PathBuf, Fault> {
    match (named, state::running()) {
        (Some(named), _) => Ok(named),
        (None, Some(state)) => Ok(state.catalog),
        (None, None) => Ok(ctx.config()?.catalog_dir()),
    }
}

pub(super) fn run(args: Catalog, ctx: &Ctx) -> Ended {
    let catalog = dir(args.catalog, ctx)?;
    match args.what {
        What::Import { dir } => {
            if !dir.is_dir() {
                return Err(Fault::usage(format!("{} is not a directory", dir.display())));
            }
            let progress = ctx.out.progress();
            let report = parts::import_catalog(&catalog, &dir, &mut |line| progress.set_message(line.to_owned()))?;
            progress.finish_and_clear();
            ctx.out.answer(&report, |report, paint| {
                let skipped: String =
                    report.skipped.iter().map(|why| format!("{} {why}\n", paint.warn("left out:"))).collect();
                format!("{skipped}{} new, {} known, {} left out\n", report.new, report.known, report.skipped.len())
            });
            ctx.out.next("next: skald catalog list");
        }
        What::List => {
            let entries = parts::list_catalog(&catalog)?;
            ctx.out.answer(&entries, |entries, paint| {
                let cells = entries.iter().map(|entry| {
                    let size = format!("{} KiB", entry.size_bytes.div_ceil(1_024));
                    vec![entry.name.clone(), entry.versions.join(" "), entry.license.clone(), size]
                });
                debug::table(&["ASSET", "VERSIONS", "LICENCE", "SIZE"], cells.collect(), paint)
            });
        }
        What::License { what } => license(what, &catalog, ctx)?,
    }
    Ok(Ending::Done)
}

fn now() -> Time {
    Time::from_micros(jiff::Timestamp::now().as_microsecond())
}

fn license(what: License, catalog: &std::path::Path, ctx: &Ctx) -> Result<(), Fault> {
    let tenant: &Tenant = ctx.tenant();
    match what {
        License::Grant { asset, seats, lasting } => {
            let expires_at = lasting.map(|lasting| now().after(lasting));
            let entitlement = Entitlement { tenant: tenant.to_string(), asset, seats, expires_at };
            parts::grant_entitlement(catalog, tenant, &entitlement)?;
            ctx.out.answer(&entitlement, |it, _| format!("{} may install {}\n", it.tenant, it.asset));
        }
        License::Revoke { asset } => {
            let had = parts::revoke_entitlement(catalog, tenant, &asset)?;
            let answer = serde_json::json!({"tenant": tenant, "asset": asset, "had": had});
            let said = if had { "may not install" } else { "had no right of its own to" };
            ctx.out.answer(&answer, |_, _| format!("{tenant} {said} {asset}\n"));
        }
        License::List => {
            let list = parts::list_entitlements(catalog, tenant)?;
            ctx.out.answer(&list, |list, paint| {
                let cells = list.iter().map(|it| {
                    let seats = it.seats.map_or_else(|| "any".into(), |seats| seats.to_string());
                    vec![
                        it.tenant.clone(),
                        it.asset.clone(),
                        seats,
                        it.expires_at.map_or_else(|| "for good".into(), debug::moment),
                    ]
                });
                debug::table(&["TENANT", "ASSET", "SEATS", "UNTIL"], cells.collect(), paint)
            });
        }
    }
    Ok(())
}
