use super::*;

fn acme(principals: &[&str], roles: &[Role]) -> Who {
    Who::Tenant {
        tenant: Tenant::new("acme").unwrap(),
        principals: principals.iter().map(|it| Principal::new(*it).unwrap()).collect(),
        roles: roles.iter().copied().collect(),
    }
}

/// Whether `pattern` lets `subject` through, as a server reads it.
fn lets(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

fn any(patterns: &[String], subject: &str) -> bool {
    patterns.iter().any(|pattern| lets(pattern, subject))
}

#[test]
fn each_role_is_a_short_list() {
    let told = |who: &Who| {
        let Permissions { publish, subscribe, answers } = permissions(who);
        let answers = if answers { "\nanswers what it hears" } else { "" };
        // Commands, and the same at their tenant's door.
        let (doors, publish): (Vec<_>, Vec<_>) = publish.into_iter().partition(|it| it.starts_with("skald.door."));
        let commands: Vec<_> = publish.iter().filter(|it| it.starts_with("skald.cmd.")).cloned().collect();
        let behind: Vec<_> = doors.iter().filter_map(|it| subjects::behind_door(it)).collect();
        assert_eq!(commands, behind);
        format!("publish {}\nsubscribe {}{answers}", publish.join(" "), subscribe.join(" "))
    };
    assert_eq!(
        told(&acme(&["ann"], &[Role::User])),
        "publish skald.cmd.acme.ann.configuration.* skald.cmd.acme.ann.decision.* skald.cmd.acme.ann.definition.check skald.cmd.acme.ann.definition.list \
         skald.cmd.acme.ann.definition.show skald.cmd.acme.ann.drift.* skald.cmd.acme.ann.environment.* \
         skald.cmd.acme.ann.event.* skald.cmd.acme.ann.incident.* skald.cmd.acme.ann.saga.* \
         skald.cmd.acme.ann.scaling.* skald.cmd.acme.ann.secret.* skald.cmd.acme.ann.service.* \
         skald.cmd.acme.ann.task.* \
         skald.cmd.acme.ann.worker.*\nsubscribe _INBOX.acme.ann.> skald.evt.acme.>"
    );
    assert_eq!(
        told(&acme(&["pricing"], &[Role::Worker])),
        "publish skald.cmd.acme.pricing.activity.*\nsubscribe _INBOX.acme.pricing.> skald.act.acme.>\n\
         answers what it hears"
    );
    assert_eq!(
        told(&acme(&["ops"], &[Role::Deployer])),
        "publish skald.cmd.acme.ops.definition.deploy\nsubscribe _INBOX.acme.ops.>"
    );
    assert_eq!(
        told(&Who::Observer { name: Principal::new("eye").unwrap() }),
        "publish skald.cluster.query skald.node.*.query\n\
         subscribe _INBOX_observer.eye.> skald.evt.> skald.dead.>"
    );
}

#[test]
fn every_command_belongs_to_a_role_and_to_its_principals_only() {
    let all = permissions(&acme(&["ann", "bob"], &[Role::User, Role::Worker, Role::Deployer]));
    let user = permissions(&acme(&["ann"], &[Role::User]));
    for command in name::ALL {
        for principal in ["ann", "bob"] {
            assert!(any(&all.publish, &format!("skald.cmd.acme.{principal}.{command}")), "{command}");
        }
        assert!(!any(&all.publish, &format!("skald.cmd.acme.eve.{command}")), "{command}");
        assert!(!any(&all.publish, &format!("skald.cmd.evil.ann.{command}")), "{command}");
        assert!(any(&all.publish, &format!("skald.door.15.acme.ann.{command}")), "{command}");
        for other in
            ["skald.door.15.acme.eve", "skald.door.15.evil.ann", "skald.door.7.evil.ann", "skald.door.7.acme.ann"]
        {
            assert!(!any(&all.publish, &format!("{other}.{command}")), "{other} {command}");
        }
        assert_eq!(any(&user.publish, &format!("skald.cmd.acme.ann.{command}")), Role::of(command) == Role::User);
    }
}

#[test]
fn nobody_but_a_node_comes_near_what_is_inside() {
    let inside = [
        "skald.journal.0",
        "skald.evt.acme.Made",
        "skald.dead.acme.forbidden",
        "skald.act.acme.price.quote",
        "skald.node.n1.command",
        "skald.keeper",
        "$KV.skald_cluster.lease.0",
        "$KV.skald_snapshots.0.x",
        "$KV.skald_definitions.order.1",
        "$KV.skald_workers.acme.health.prod",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.SKALD_EVENTS",
        "$JS.API.CONSUMER.CREATE.SKALD_EVENTS.x.skald.evt.acme.>",
        "$JS.API.STREAM.MSG.GET.SKALD_EVENTS",
        "$JS.API.DIRECT.GET.SKALD_EVENTS",
        "$JS.ACK.SKALD_EVENTS.x.1.1.1.1.1",
        "$SYS.REQ.SERVER.PING",
        "$SRV.PING",
        "_INBOX.acme.bob.x",
        "_INBOX_skald.x",
    ];
    let everyone = [
        acme(&["ann"], &[Role::User, Role::Worker, Role::Deployer]),
        Who::Observer { name: Principal::new("eye").unwrap() },
    ];
    for who in &everyone {
        let may = permissions(who);
        for subject in inside {
            assert!(!any(&may.publish, subject), "{who:?} may publish to {subject}");
        }
        let heard = [
            "skald.journal.0",
            "skald.keeper",
            "skald.cmd.acme.ann.saga.start",
            "skald.door.15.acme.ann.saga.start",
            "_INBOX.acme.bob.x",
            "_INBOX_skald.x",
            "$SYS.X",
        ];
        for subject in heard {
            assert!(!any(&may.subscribe, subject), "{who:?} hears {subject}");
        }
    }
    assert!(!any(&permissions(&everyone[0]).subscribe, "skald.evt.evil.Made"));
    let node = permissions(&Who::Node);
    for destroyed in ["STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE"] {
        assert!(!any(&node.publish, &format!("$JS.API.{destroyed}.SKALD_JOURNAL")), "a node may {destroyed}");
    }
    assert!(!any(&node.publish, "skald.cmd.acme.ann.saga.start"), "a node speaks as nobody");
    assert!(any(&node.subscribe, "skald.evt.acme.Made"), "events make its workers run");
}

#[test]
fn no_two_users_share_an_inbox() {
    let inbox = |tenant: &str, principal: &str| {
        let (tenant, principals) = (Tenant::new(tenant).unwrap(), vec![Principal::new(principal).unwrap()]);
        Who::Tenant { tenant, principals, roles: BTreeSet::from([Role::User]) }.inbox()
    };
    assert_ne!(inbox("a-b", "c"), inbox("a", "b-c"));
    assert!(!lets(&format!("{}.>", inbox("a", "b")), &format!("{}.x", inbox("a", "c"))));
    assert!(!lets("_INBOX.>", &format!("{NODE_INBOX}.x")), "clients' inboxes are not the nodes'");
}
