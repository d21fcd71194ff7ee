//! What a connection may say and hear: the only place where it is decided.
//!
//! Whatever is not allowed is refused by the server, so there are no lists of what is denied. Only
//! nodes may speak to JetStream. A server sends the answer to a request wherever the asker says, by
//! its own permissions: a client that may ask JetStream the least thing could have the answer
//! written into the journal. Clients read events from nodes instead (`event.read`), and nodes answer
//! to the asker's own inbox only.

mod server;

use std::collections::BTreeSet;

use protocol::command::name;
use protocol::{Principal, Tenant, subjects};

pub use server::{Listen, User, server_config, user_block};

use crate::nats::{BUCKETS, INBOX};

/// Where answers to nodes come: a place that no client's inbox is below.
pub const NODE_INBOX: &str = "_INBOX_skald";
/// Where answers to observers come; below it each has a place of its own.
pub const OBSERVER_INBOX: &str = "_INBOX_observer";

/// What a user of a tenant may do. One may have several roles.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Starts sagas, looks at them, signals, decides, cancels, releases; reads the tenant's events;
    /// looks at its workers, runs, pauses and resumes them.
    User,
    /// Does the tenant's work outside the nodes.
    Worker,
    /// Deploys definitions, which all tenants share.
    Deployer,
}

impl Role {
    /// The role that gives `command`.
    pub fn of(command: &str) -> Self {
        match command {
            name::ACTIVITY_COMPLETE | name::ACTIVITY_FAIL | name::ACTIVITY_HEARTBEAT => Self::Worker,
            name::DEFINITION_DEPLOY => Self::Deployer,
            _ => Self::User,
        }
    }
}

/// Who connects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// A node; all nodes of a cluster are one user.
    Node,
    /// Somebody of a tenant.
    Tenant {
        /// Whose data.
        tenant: Tenant,
        /// As whom it may speak; the first names it.
        principals: Vec<Principal>,
        /// What it may do.
        roles: BTreeSet<Role>,
    },
    /// Somebody who looks at the whole cluster and changes nothing.
    Observer {
        /// Its name.
        name: Principal,
    },
}

impl Who {
    /// Where answers to it come, unless it speaks as another of its principals than the first.
    pub fn inbox(&self) -> String {
        match self {
            Self::Node => NODE_INBOX.into(),
            Self::Tenant { tenant, principals, .. } => {
                principals.first().map_or_else(|| INBOX.into(), |first| subjects::inbox(tenant, first))
            }
            Self::Observer { name } => format!("{OBSERVER_INBOX}.{name}"),
        }
    }
}

/// Subjects that a connection may use; the server refuses it all others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    /// What it may publish to.
    pub publish: Vec<String>,
    /// What it may subscribe to.
    pub subscribe: Vec<String>,
    /// Whether it may answer each request that it hears, once, wherever the answer is wanted.
    pub answers: bool,
}

/// What `who` may do.
pub fn permissions(who: &Who) -> Permissions {
    match who {
        Who::Node => node(format!("{NODE_INBOX}.>")),
        Who::Tenant { tenant, principals, roles } => {
            let mut publish = Vec::new();
            for principal in principals {
                publish.extend(roles.iter().flat_map(|role| commands(tenant, principal, *role)));
            }
            // The server asks about what it makes of a command. By another tenant's door nobody comes.
            for at in 0..publish.len() {
                publish.push(subjects::at_door(tenant, &publish[at]));
            }
            // Whoever speaks as one of them hears the answers in that one's inbox.
            let inbox = |principal| format!("{}.>", subjects::inbox(tenant, principal));
            let mut subscribe: Vec<String> = principals.iter().map(inbox).collect();
            if roles.contains(&Role::User) {
                subscribe.push(subjects::events_of(tenant));
            }
            let answers = roles.contains(&Role::Worker);
            if answers {
                subscribe.push(subjects::activities_of(tenant));
            }
            Permissions { publish, subscribe, answers }
        }
        Who::Observer { name } => Permissions {
            publish: vec![subjects::CLUSTER_QUERY.into(), subjects::NODE_QUERIES.into()],
            subscribe: vec![format!("{OBSERVER_INBOX}.{name}.>"), subjects::EVENTS.into(), subjects::DEAD.into()],
            answers: false,
        },
    }
}

/// The subjects of the commands that `role` gives as `principal`. A noun whose verbs all belong to
/// one role is one subject, so that a new verb needs no new configuration.
fn commands(tenant: &Tenant, principal: &Principal, role: Role) -> BTreeSet<String> {
    let noun = |command: &'static str| command.split('.').next().unwrap_or_default();
    let whole = |wanted: &str| name::ALL.iter().all(|other| noun(other) != wanted || Role::of(other) == role);
    let ours = name::ALL.iter().filter(|command| Role::of(command) == role);
    ours.map(|command| match noun(command) {
        noun if whole(noun) => subjects::commands_about(tenant, principal, noun),
        _ => subjects::command(tenant, principal, command),
    })
    .collect()
}

fn node(inbox: String) -> Permissions {
    let journal = [subjects::JOURNAL, subjects::EVENTS, subjects::DEAD, subjects::ACTIVITIES];
    // All are asked at once by an operator who speaks as a node.
    let peers = [subjects::NODE_QUERIES, subjects::NODE_COMMANDS, subjects::KEEPER, subjects::CLUSTER_QUERY];
    // Streams are looked at, made and changed by setting; nothing is ever deleted or purged.
    let jetstream = [
        "INFO",
        "STREAM.INFO.*",
        "STREAM.CREATE.*",
        "STREAM.UPDATE.*",
        "STREAM.MSG.GET.*",
        "DIRECT.GET.*",
        "DIRECT.GET.*.>",
        "CONSUMER.CREATE.*",
        "CONSUMER.CREATE.*.>",
        "CONSUMER.INFO.*.*",
        "CONSUMER.DELETE.*.*",
    ];
    let mut publish: Vec<String> = journal.into_iter().chain(peers).map(str::to_owned).collect();
    publish.extend(BUCKETS.iter().map(|bucket| format!("$KV.{bucket}.>")));
    publish.extend(jetstream.iter().map(|api| format!("$JS.API.{api}")));
    // Flow control of ordered consumers; answers to clients, to imports of other accounts, to nodes.
    publish.extend(["$JS.FC.>", "_INBOX.>", "_R_.>"].map(str::to_owned));
    publish.push(format!("{OBSERVER_INBOX}.>"));
    publish.push(inbox.clone());
    // Events make workers run.
    let hears = [
        subjects::COMMANDS,
        subjects::ALL_DOORS,
        subjects::EVENTS,
        subjects::CLUSTER_QUERY,
        subjects::NODE_QUERIES,
        subjects::NODE_COMMANDS,
        subjects::KEEPER,
    ];
    let mut subscribe: Vec<String> = hears.into_iter().map(str::to_owned).collect();
    // Whoever keeps the processes serves the runtime platform's activities.
    subscribe.extend(["$SRV.>".to_owned(), subjects::ACTIVITIES.to_owned(), inbox]);
    Permissions { publish, subscribe, answers: false }
}

#[cfg(test)]
mod tests;
