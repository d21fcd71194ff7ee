use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::{Principal, Tenant};
use serde_json::json;
use supervisor::ports::Clock as _;

use crate::debug;
use crate::http::ROUTES;
use crate::http::token::{Holder, Holders, digest, scopes};
use crate::node::SystemClock;
use crate::secret::Secret;

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, duration};

/// Makes tokens for the HTTP door, and lists its routes
#[derive(Args, Debug)]
#[command(after_help = "\
The door is off unless http.bind is set. It answers /v1/runtime/…, as JSON; what refuses is a problem
of type application/problem+json.

Example:
  skald http token acme:ann --scope runtime.deployments.write --scope runtime.deployments.read
  skald http routes

Next: curl -H \"Authorization: Bearer TOKEN\" http://127.0.0.1:7080/v1/runtime/services")]
pub(super) struct Http {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Makes a token, shows it once and writes its digest into the node's file
    #[command(
        after_help = "The token is shown once and kept nowhere. Taking its lines out of the file takes the right away.\n\nExample:\n  skald http token acme:ann --scope runtime.health.read --for 30d\n\nNext: skald http routes"
    )]
    Token {
        /// Whose data, and as whom
        #[arg(value_name = "TENANT:PRINCIPAL", value_parser = who)]
        who: (Tenant, Principal),
        /// What it may; may be repeated
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// How long it is good; until it is taken out when not given
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
        good_for: Option<Duration>,
        /// The node's file, where it is not that of the settings
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Lists the routes, with the command and the scope of each
    #[command(
        after_help = "Example:\n  skald http routes\n\nNext: skald http token acme:ann --scope runtime.health.read"
    )]
    Routes,
}

fn who(text: &str) -> Result<(Tenant, Principal), String> {
    let (tenant, principal) = text.split_once(':').ok_or("write TENANT:PRINCIPAL, such as acme:ann")?;
    let tenant = Tenant::new(tenant).map_err(|error| format!("tenant {tenant:?}: {error}"))?;
    Ok((tenant, Principal::new(principal).map_err(|error| format!("principal {principal:?}: {error}"))?))
}

pub(super) fn run(args: Http, ctx: &Ctx) -> Ended {
    match args.what {
        What::Token { who, scopes, good_for, file } => {
            let file = match file {
                Some(file) => file,
                None => ctx.config()?.http_tokens(),
            };
            let token = Secret::new(format!("skald_{}{}", fresh(), fresh()));
            let holder = holder(who, scopes, good_for, &token)?;
            add(&file, &holder)?;
            let shown = json!({
                "token": token.reveal(), "tenant": holder.tenant, "principal": holder.principal,
                "scopes": holder.scopes, "until": holder.until, "file": file,
            });
            ctx.out.answer(&shown, |_, _| format!("{}\n", token.reveal()));
            ctx.out.next("next: skald http routes, and send it as `Authorization: Bearer …`");
        }
        What::Routes => {
            let rows: Vec<_> = ROUTES
                .iter()
                .map(|route| {
                    let path = format!("{}{}", crate::http::BASE, route.path);
                    vec![route.method.to_string(), path, route.scope(), route.command.to_owned()]
                })
                .collect();
            ctx.out.answer(&rows, |rows, paint| {
                debug::table(&["METHOD", "PATH", "SCOPE", "COMMAND"], rows.clone(), paint)
            });
        }
    }
    Ok(Ending::Done)
}

fn fresh() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn holder(
    (tenant, principal): (Tenant, Principal),
    wanted: Vec<String>,
    good_for: Option<Duration>,
    token: &Secret,
) -> Result<Holder, Fault> {
    if let Some(unknown) = wanted.iter().find(|scope| !scopes().contains(*scope)) {
        let known: Vec<_> = scopes().into_iter().collect();
        return Err(
            Fault::usage(format!("there is no scope {unknown}")).mend(format!("choose of {}", known.join(", ")))
        );
    }
    let until = good_for.map(|good_for| SystemClock.now().after(good_for));
    let scopes: BTreeSet<String> = wanted.into_iter().collect();
    Ok(Holder { sha256: digest(token), tenant, principal, scopes, until })
}

/// Writes a holder behind those that are there; nobody else may read the file.
fn add(file: &std::path::Path, holder: &Holder) -> Result<(), Fault> {
    let unusable = |why: String| {
        Fault::new(format!("{} cannot be used", file.display())).why(why).mend("name another file with --file")
    };
    let text =
        toml::to_string(&Holders { token: vec![holder.clone()] }).map_err(|error| unusable(error.to_string()))?;
    if let Ok(there) = std::fs::read_to_string(file) {
        Holders::read(&there).map_err(unusable)?;
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(|error| unusable(error.to_string()))?;
    }
    let opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    let written = opened.and_then(|mut it| it.write_all(format!("{text}\n").as_bytes()));
    written.map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::token::Tokens;

    #[test]
    fn a_token_is_known_by_its_digest_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (file, token) = (dir.path().join("tokens.toml"), Secret::new("t0ken"));
        let scopes = vec!["runtime.health.read".to_owned()];
        for principal in ["acme:ann", "acme:bob"] {
            let token = if principal == "acme:bob" { Secret::new("other") } else { token.clone() };
            let one = holder(who(principal).unwrap(), scopes.clone(), Some(Duration::from_secs(60)), &token).unwrap();
            add(&file, &one).unwrap();
        }
        assert!(!std::fs::read_to_string(&file).unwrap().contains("t0ken"));
        let (tokens, now) = (Tokens::new(&file), SystemClock.now());
        assert_eq!(tokens.holder(&token, now).unwrap().unwrap().principal.as_str(), "ann");
        assert_eq!(tokens.holder(&token, now.after(Duration::from_secs(61))).unwrap(), None);
        assert_eq!(tokens.holder(&Secret::new("none"), now).unwrap(), None);
        assert_eq!(holder(who("a:b").unwrap(), vec!["runtime.all".into()], None, &token).unwrap_err().exit, 2);
        assert!(who("acme").is_err());
    }
}
