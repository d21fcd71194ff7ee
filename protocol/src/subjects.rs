//! Where things are said: every NATS subject in one place.

use crate::ids::NAME_MAX_BYTES;
use crate::{NodeId, Principal, ShardId, Tenant};

/// All commands: `skald.cmd.<tenant>.<principal>.<noun>.<verb>`.
pub const COMMANDS: &str = "skald.cmd.*.*.*.*";
/// By how many doors commands come where the server keeps tenants apart. Part of the server's configuration:
/// a node that listens at fewer would not hear some tenants.
pub const DOORS: u32 = 16;
/// Commands at all doors: `skald.door.<door>.<tenant>.<principal>.<noun>.<verb>`.
pub const ALL_DOORS: &str = "skald.door.*.*.*.*.*";
/// What the server makes of a command, for its configuration: it counts the door from the tenant.
pub const TO_DOORS: (&str, &str) = (
    "skald.cmd.*.*.*.*",
    "skald.door.{{partition(16,1)}}.{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}",
);
/// All events of all tenants.
pub const EVENTS: &str = "skald.evt.>";
/// All journal subjects.
pub const JOURNAL: &str = "skald.journal.*";
/// All dead letters.
pub const DEAD: &str = "skald.dead.>";
/// Work for activities outside the nodes, of all tenants.
pub const ACTIVITIES: &str = "skald.act.>";
/// Where nodes answer questions about themselves.
pub const NODE_QUERIES: &str = "skald.node.*.query";
/// Where nodes take commands from their peers.
pub const NODE_COMMANDS: &str = "skald.node.*.command";
/// Where whoever keeps the processes of the runtime platform is asked by the nodes on which its
/// workers run. No activity: a definition of a tenant may name any of those.
pub const KEEPER: &str = "skald.keeper";
/// Questions that every node answers for its own part (lists, trees).
pub const CLUSTER_QUERY: &str = "skald.cluster.query";

/// A command's subject, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandSubject {
    /// Whose data the command touches.
    pub tenant: Tenant,
    /// Who gives it.
    pub principal: Principal,
    /// `noun.verb`, as in `saga.start`.
    pub command: String,
}

/// The subject of `command` (`noun.verb`) given by `principal` for `tenant`.
pub fn command(tenant: &Tenant, principal: &Principal, command: &str) -> String {
    format!("skald.cmd.{tenant}.{principal}.{command}")
}

/// Every command about `noun` that `principal` gives for `tenant`.
pub fn commands_about(tenant: &Tenant, principal: &Principal, noun: &str) -> String {
    command(tenant, principal, &format!("{noun}.*"))
}

/// The commands that come by one door.
pub fn door(number: u32) -> String {
    format!("skald.door.{number}.*.*.*.*")
}

/// What the server makes of the subject of commands of `tenant`, as [`TO_DOORS`] says.
pub fn at_door(tenant: &Tenant, command: &str) -> String {
    // FNV-1a, as nats-server counts partitions.
    let hash =
        tenant.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let rest = command.strip_prefix("skald.cmd.").unwrap_or(command);
    format!("skald.door.{}.{rest}", hash % DOORS)
}

/// The subject that a command was given by, when `subject` is that of a door.
pub fn behind_door(subject: &str) -> Option<String> {
    let (door, rest) = subject.strip_prefix("skald.door.")?.split_once('.')?;
    door.bytes().all(|b| b.is_ascii_digit()).then(|| format!("skald.cmd.{rest}"))
}

/// Takes a command's subject apart; `None` when it is not one.
pub fn parse_command(subject: &str) -> Option<CommandSubject> {
    let mut parts = subject.strip_prefix("skald.cmd.")?.splitn(3, '.');
    let tenant = Tenant::new(parts.next()?).ok()?;
    let principal = Principal::new(parts.next()?).ok()?;
    let command = parts.next()?;
    let (noun, verb) = command.split_once('.')?;
    let word = |text: &str| {
        !text.is_empty()
            && text.len() <= NAME_MAX_BYTES
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (word(noun) && word(verb)).then(|| CommandSubject { tenant, principal, command: command.to_owned() })
}

/// Where an event of `tenant` is published.
pub fn event(tenant: &Tenant, event_type: &str) -> String {
    format!("skald.evt.{tenant}.{event_type}")
}

/// Events of one type, of all tenants.
pub fn events_named(event_type: &str) -> String {
    format!("skald.evt.*.{event_type}")
}

/// All events of `tenant`.
pub fn events_of(tenant: &Tenant) -> String {
    event(tenant, ">")
}

/// All work of `tenant` for activities outside the nodes.
pub fn activities_of(tenant: &Tenant) -> String {
    activity(tenant, ">")
}

/// Where answers to `principal` of `tenant` come, and to nobody else: below this, when permissions
/// keep the inboxes of a server apart. The name stands in tokens of their own, so that no two users
/// share one.
pub fn inbox(tenant: &Tenant, principal: &Principal) -> String {
    format!("_INBOX.{tenant}.{principal}")
}

/// Where work for an activity outside the node is asked for. The activity's own dots stay.
pub fn activity(tenant: &Tenant, activity: &str) -> String {
    format!("skald.act.{tenant}.{activity}")
}

/// The journal of one shard.
pub fn journal(shard: ShardId) -> String {
    format!("skald.journal.{shard}")
}

/// Where one node answers questions about itself.
pub fn node(node: &NodeId) -> String {
    format!("skald.node.{node}.query")
}

/// Where one node takes commands that its peers pass on to it, as owner of their shard.
pub fn node_commands(node: &NodeId) -> String {
    format!("skald.node.{node}.command")
}

/// Where what could not be understood is kept, by reason.
pub fn dead(tenant: &str, reason: &str) -> String {
    format!("skald.dead.{tenant}.{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_by_its_tenants_door() {
        // As nats-server 2.15.1 counted them with the mapping of `TO_DOORS`.
        for (tenant, number) in [("acme", 15), ("evil", 7), ("default", 14), ("guest", 3)] {
            let command = format!("skald.cmd.{tenant}.ann.saga.start");
            let at = at_door(&Tenant::new(tenant).unwrap(), &command);
            assert_eq!(at, format!("skald.door.{number}.{tenant}.ann.saga.start"));
            assert_eq!(behind_door(&at), Some(command));
        }
        for other in ["skald.cmd.acme.ann.saga.start", "skald.door.x.acme", "skald.door.1"] {
            assert_eq!(behind_door(other), None, "{other}");
        }
        assert!(TO_DOORS.1.contains(&format!("partition({DOORS},1)")));
    }

    #[test]
    fn a_command_subject_is_read_back() {
        let (tenant, principal) = (Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
        let subject = command(&tenant, &principal, "saga.start");
        let read = parse_command(&subject).unwrap();
        assert_eq!((read.tenant, read.principal, read.command.as_str()), (tenant, principal, "saga.start"));
        for bad in ["skald.cmd.acme.ann.saga", "skald.cmd.acme.ann.saga.start.x", "skald.evt.acme.X", ""] {
            assert_eq!(parse_command(bad), None, "{bad}");
        }
        for bad in ["saga.", ".start", "*.>", "saga.st art", "sa\0ga.x", "s.é", &format!("s.{}", "x".repeat(65))] {
            assert_eq!(parse_command(&format!("skald.cmd.acme.ann.{bad}")), None, "{bad}");
        }
    }
}
