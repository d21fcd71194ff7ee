//! Which repositories and branches may be named.

use supervisor::activity::Failure;

fn bad<T>(why: String) -> Result<T, Failure> {
    Err(Failure::named("BadRepository", why))
}

/// Holds `url` to transports that keep content from being exchanged on its way, and out of
/// passwords: an address is shown in errors, logs and lists of processes.
pub fn check_url(url: &str) -> Result<(), Failure> {
    if url.len() > 2_048 || url.chars().any(char::is_control) || url.starts_with('-') {
        return bad("the address of the repository is too long or has control characters; write it plainly".into());
    }
    if let Some(rest) = url.strip_prefix("https://") {
        let host = rest.split('/').next().unwrap_or_default();
        // A token may stand in the place of the user's name.
        if host.contains('@') {
            return bad("the https address has a user name in it; give credentials to a git credential helper".into());
        }
        return if host.is_empty() { bad("the https address has no host".into()) } else { Ok(()) };
    }
    if let Some(rest) = url.strip_prefix("ssh://") {
        let host = rest.split('/').next().unwrap_or_default();
        return match host.split_once('@') {
            Some((user, _)) if user.contains(':') => bad("the ssh address has a password in it; use a key".into()),
            Some((_, host)) if host.starts_with('-') => bad("the ssh address has no host".into()),
            _ if host.is_empty() || host.starts_with('-') => bad("the ssh address has no host".into()),
            Some(_) | None => Ok(()),
        };
    }
    if url.starts_with("file:///") {
        return Ok(());
    }
    // As in git@host:team/desired.git; `host::` would name a program.
    let short = !url.contains("://") && !url.contains("::");
    match url.split_once(':') {
        Some((host, path)) if short && host.contains('@') && !host.contains('/') && !path.is_empty() => Ok(()),
        Some(_) | None => bad("use an https://, ssh://, user@host:path or file:/// address of a repository".into()),
    }
}

/// Holds `branch` to what git allows and a command line carries.
pub fn check_branch(branch: &str) -> Result<(), Failure> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad_name = branch.len() > 200
        || branch.starts_with('-')
        || branch.contains("..")
        || branch.contains("@{")
        || branch.ends_with('.')
        || branch.contains(odd)
        || branch.split('/').any(bad_part);
    if bad_name {
        return bad(format!("{:?} is no name of a branch", branch.chars().take(80).collect::<String>()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_programs_or_shows_passwords_is_no_address() {
        for good in ["https://host/a.git", "ssh://git@host:22/a", "git@host:team/a.git", "file:///srv/a.git"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-upload-pack=x",
            "ext::sh -c id",
            "http://host/a",
            "https://token@host/a",
            "https://",
            "ssh://u:secret@host/a",
            "ssh://-oProxyCommand=x/a",
            "ssh://git@-oProxyCommand=x/a",
            "git@host::x",
            "../a",
        ] {
            let refused = check_url(bad).expect_err(bad);
            assert!(!refused.cause.contains("secret") && !refused.cause.contains("token"), "{refused}");
        }
    }

    #[test]
    fn branches_are_names() {
        assert!(check_branch("main").is_ok() && check_branch("release/1.4").is_ok());
        for bad in ["", "-x", "a..b", "a b", "a:b", "a^", "/a", "a/", "a//b", ".a", "a.lock", "a@{1}", "a\n"] {
            assert!(check_branch(bad).is_err(), "{bad:?}");
        }
    }
}
