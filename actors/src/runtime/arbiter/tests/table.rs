use super::*;

/// What is under way × what is asked, on one page.
#[test]
fn what_meets_what() {
    let mut page = String::new();
    for asked in Asked::ALL {
        page.push_str(&format!("{:<20}", format!("{asked:?}")));
        for doing in Doing::ALL {
            page.push_str(&format!(" {:<5}", format!("{:?}", meeting(doing, asked))));
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
    }
    // Nothing, Deploying, Remediating, Restoring, Stopping, Scaling, Configuring, Refreshing, Restarting, Draining, Removing
    let wanted = "\
Deploy               Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
RollbackDeployment   Begin Stop  Stop  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
RemediateDrift       Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
Scale                Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
ApplyConfiguration   Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
RefreshSecret        Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
Restart              Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
Drain                Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
Remove               Begin Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait  Wait
Finished             Void  End   End   End   End   End   End   End   End   End   End
Abandon              Void  End   End   End   End   End   End   End   End   End   End
DesiredState         Note  Note  Note  Note  Note  Note  Note  Note  Note  Note  Note
Govern               Note  Note  Note  Note  Note  Note  Note  Note  Note  Note  Note
ClearHold            Note  Note  Note  Note  Note  Note  Note  Note  Note  Note  Note
Pause                Note  Note  Note  Note  Note  Note  Note  Note  Note  Note  Note
Strand               Note  Note  Note  Note  Note  Note  Note  Note  Note  Note  Note
Resume               Note  Note  Note  Note  Note  Note  Note  Note  Note  Wait  Wait
";
    assert_eq!(page, wanted);
}

/// H04: what a worker may say is its one command; the rest is a person's.
#[test]
fn who_may_ask_what() {
    let may = |source| Asked::ALL.into_iter().filter(|asked| asked.by().contains(&source)).collect::<Vec<_>>();
    assert_eq!(may(Source::Drift), [Asked::RemediateDrift, Asked::Strand]);
    assert_eq!(may(Source::Health), [Asked::RollbackDeployment, Asked::Strand]);
    assert_eq!(may(Source::Scaling), [Asked::Scale, Asked::Govern]);
    assert_eq!(may(Source::Configuration), [Asked::ApplyConfiguration]);
    assert_eq!(may(Source::Secrets), [Asked::RefreshSecret]);
    assert_eq!(may(Source::Sync), [Asked::Deploy, Asked::Abandon, Asked::DesiredState]);
    assert_eq!(may(Source::Runner), [Asked::Finished]);
    assert_eq!(may(Source::Operator).len(), Asked::ALL.len() - 1);
}
