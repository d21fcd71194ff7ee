use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use protocol::{Principal, Tenant};

use crate::cli::context::Ctx;
use crate::cli::fault::Fault;
use crate::cli::{Ended, Ending};
use crate::nats::About;
use crate::permissions::{Listen, Role, User, Who, server_config};

use super::files::{self, Key};

/// Writes a server's configuration, and a credentials file for each user
#[derive(Args, Debug)]
#[command(after_help = "\
Each user may speak as its tenant and principals, hear its own answers and its tenant's events, and
nothing else: the server refuses the rest. One name may have several roles. No secret is shown; the
files are for their owner's eyes only. Run it again with more users: keys that are there are kept.

Example:
  skald nats config --out nats --user acme:ann,bob --worker acme:pricing --deployer acme:ops
  skald nats config --out nats --user acme:ann --observer eye --tls-cert s.pem --tls-key s.key

Next: nats-server -c nats/nats-server.conf; skald node with `credentials = \"nats/node.nk\"`;
skald --creds nats/acme.ann.nk list")]
pub(super) struct Config {
    /// Directory for the files; made when it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// May start sagas, look, signal, decide, cancel, and read events; may be repeated
    #[arg(long = "user", value_name = "TENANT:PRINCIPAL[,…]")]
    users: Vec<Named>,
    /// May do a tenant's work outside the nodes; may be repeated
    #[arg(long = "worker", value_name = "TENANT:NAME")]
    workers: Vec<Named>,
    /// May deploy definitions, which all tenants share; may be repeated
    #[arg(long = "deployer", value_name = "TENANT:PRINCIPAL")]
    deployers: Vec<Named>,
    /// May look at the whole cluster and all events; may be repeated
    #[arg(long = "observer", value_name = "NAME")]
    observers: Vec<Principal>,
    /// Where the server listens for clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4222")]
    listen: SocketAddr,
    /// Where the server keeps everything; DIR/jetstream when not set
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The server's certificate: connections are then encrypted
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the server's certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Authorities of clients' certificates: each client must then show one
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
}

/// A tenant with those who may speak for it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Named {
    tenant: Tenant,
    principals: Vec<Principal>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, principals) = text.split_once(':').ok_or("write TENANT:PRINCIPAL, such as acme:ann")?;
        let tenant = Tenant::new(tenant).map_err(|error| format!("tenant {tenant:?}: {error}"))?;
        let principal = |name: &str| Principal::new(name).map_err(|error| format!("principal {name:?}: {error}"));
        Ok(Self { tenant, principals: principals.split(',').map(principal).collect::<Result<_, _>>()? })
    }
}

pub(super) fn run(args: &Config, ctx: &Ctx) -> Ended {
    let everyone = everyone(args)?;
    files::directory(&args.out)?;
    let dir = std::path::absolute(&args.out)?;
    let mut written = Vec::new();
    for (name, who) in everyone {
        let about = about(&who);
        written.push((files::key(&dir, &name, &about)?, who));
    }
    let system = files::key(&dir, "sys", &About::default())?;
    let listen = Listen {
        at: args.listen,
        store: args.store.as_deref().map_or_else(|| Ok(dir.join("jetstream")), std::path::absolute)?,
        tls: absolute(args.tls_cert.as_deref())?.zip(absolute(args.tls_key.as_deref())?),
        tls_authorities: absolute(args.tls_ca.as_deref())?,
    };
    let users: Vec<_> =
        written.iter().map(|(key, who)| User { who: who.clone(), public: key.public.clone() }).collect();
    let file = dir.join("nats-server.conf");
    files::write(&file, &server_config(&listen, &users, &system.public))?;
    tell(ctx, &file, written.iter().map(|(key, _)| key).chain([&system]));
    let first = written.iter().find(|(_, who)| matches!(who, Who::Tenant { .. }));
    let client = first.map(|(key, _)| format!("\n  skald --creds {} list", key.file.display())).unwrap_or_default();
    let node = dir.join("node.nk");
    ctx.out.next(&format!(
        "\nnext:\n  nats-server -c {}        (running already? nats-server --signal reload)\n  \
         skald node --creds {}\n  hand each user its file, and nobody else{client}",
        file.display(),
        node.display()
    ));
    Ok(Ending::Done)
}

fn absolute(path: Option<&Path>) -> std::io::Result<Option<PathBuf>> {
    path.map(std::path::absolute).transpose()
}

/// Who connects, by the names of their files.
fn everyone(args: &Config) -> Result<BTreeMap<String, Who>, Fault> {
    let mut all = BTreeMap::from([("node".to_owned(), Who::Node)]);
    let named = [(&args.users, Role::User), (&args.workers, Role::Worker), (&args.deployers, Role::Deployer)];
    for (named, role) in named.into_iter().flat_map(|(list, role)| list.iter().map(move |named| (named, role))) {
        let Named { tenant, principals } = named;
        let name = format!("{tenant}.{}", principals[0]);
        let fresh = Who::Tenant { tenant: tenant.clone(), principals: principals.clone(), roles: BTreeSet::new() };
        match all.entry(name.clone()).or_insert(fresh) {
            Who::Tenant { principals: known, roles, .. } if known == principals => drop(roles.insert(role)),
            Who::Tenant { .. } | Who::Node | Who::Observer { .. } => {
                return Err(Fault::usage(format!("{name} is named twice, with other principals"))
                    .mend("give one user the same principals in every role, or another first one"));
            }
        }
    }
    for name in &args.observers {
        let who = Who::Observer { name: name.clone() };
        let before = all.insert(format!("observer.{name}"), who.clone());
        if before.is_some_and(|before| before != who) {
            let what = format!("{name} looks on, and is a user of the tenant \"observer\": one file for two");
            return Err(Fault::usage(what).mend("name the observer otherwise"));
        }
    }
    Ok(all)
}

fn about(who: &Who) -> About {
    let (tenant, principal) = match who {
        Who::Tenant { tenant, principals, .. } => (Some(tenant.clone()), principals.first().cloned()),
        Who::Node | Who::Observer { .. } => (None, None),
    };
    About { tenant, principal, inbox: Some(who.inbox()) }
}

fn tell<'k>(ctx: &Ctx, config: &Path, keys: impl Iterator<Item = &'k Key>) {
    let files: Vec<_> =
        keys.map(|key| serde_json::json!({"file": key.file, "nkey": key.public, "kept": key.kept})).collect();
    let document = serde_json::json!({"config": config, "credentials": files});
    ctx.out.answer(&document, |_, paint| {
        let mut text = format!("{}\n", config.display());
        for file in &files {
            let kept = if file["kept"] == true { "  (kept)" } else { "" };
            text.push_str(&format!("{}{}\n", file["file"].as_str().unwrap_or_default(), paint.dim(kept)));
        }
        text
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(users: &[&str], workers: &[&str], observers: &[&str]) -> Config {
        let named = |list: &[&str]| list.iter().map(|it| it.parse().unwrap()).collect();
        Config {
            out: "out".into(),
            users: named(users),
            workers: named(workers),
            deployers: Vec::new(),
            observers: observers.iter().map(|it| Principal::new(*it).unwrap()).collect(),
            listen: SocketAddr::from(([127, 0, 0, 1], 4222)),
            store: None,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
        }
    }

    #[test]
    fn one_name_may_have_several_roles_and_one_set_of_principals() {
        let all = everyone(&config(&["acme:shop,ann"], &["acme:shop,ann"], &["eye"])).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["acme.shop", "node", "observer.eye"]);
        let Who::Tenant { roles, .. } = &all["acme.shop"] else { panic!() };
        assert_eq!(roles.len(), 2);
        let twice = everyone(&config(&["acme:ann", "acme:ann,bob"], &[], &[])).unwrap_err();
        assert!(twice.what.contains("acme.ann is named twice") && twice.exit == 2, "{twice:?}");
    }

    #[test]
    fn a_user_is_a_tenant_and_its_principals() {
        for bad in ["acme", "acme:", ":ann", "acme:a.b", "acme:*", "acme:ann,", "a b:c", ">:>"] {
            assert!(bad.parse::<Named>().is_err(), "{bad}");
        }
    }
}
