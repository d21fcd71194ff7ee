//! Who a connection is to the server, and how it is encrypted: the same for nodes and clients.

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use protocol::{Principal, Tenant};

use crate::secret::Secret;

/// Where answers come unless permissions name another place.
pub const INBOX: &str = "_INBOX";
/// What a credentials file of ours says about its user stands in lines that begin so.
const ABOUT: &str = "# skald ";
/// Frames the seed, as other NATS tools read it.
const SEED_BEGIN: &str = "-----BEGIN USER NKEY SEED-----";
const SEED_END: &str = "------END USER NKEY SEED------";
const JWT_BEGIN: &str = "-----BEGIN NATS USER JWT-----";

/// Who a connection is to the server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    None,
    /// A credentials file: a JWT and its seed, or a seed alone.
    Credentials(PathBuf),
    /// A user and a password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// The seed of an nkey.
    Nkey(Secret),
    /// A token.
    Token(Secret),
}

impl std::fmt::Display for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("nobody in particular"),
            Self::Credentials(path) => write!(f, "{}", path.display()),
            Self::User { user, .. } => write!(f, "user {user}"),
            Self::Nkey(_) => f.write_str("an nkey"),
            Self::Token(_) => f.write_str("a token"),
        }
    }
}

/// How the connection is encrypted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// Refuse a connection that is not encrypted.
    pub required: bool,
    /// Authorities to trust, instead of the system's.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Takes the login out of addresses such as `nats://ann:secret@host` or `nats://token@host`, which the
/// library would pass over. The first one counts.
pub(crate) fn from_addresses(addresses: &[String]) -> (Auth, Vec<String>) {
    let mut auth = Auth::None;
    let mut bare = Vec::new();
    for address in addresses {
        let (scheme, rest) = address.split_once("://").unwrap_or(("nats", address));
        let Some((login, place)) = rest.rsplit_once('@') else {
            bare.push(address.clone());
            continue;
        };
        bare.push(format!("{scheme}://{place}"));
        if auth == Auth::None {
            auth = match login.split_once(':') {
                Some((user, password)) => Auth::User { user: user.into(), password: password.into() },
                None => Auth::Token(login.into()),
            };
        }
    }
    (auth, bare)
}

/// What a credentials file says about its user besides the secret.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct About {
    /// Whose data it may touch.
    pub tenant: Option<Tenant>,
    /// As whom it speaks unless told otherwise.
    pub principal: Option<Principal>,
    /// Where answers to it come.
    pub inbox: Option<String>,
}

impl About {
    /// Reads what `file` says. A file of another origin says nothing; one that cannot be read is for
    /// the connection to complain about.
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).map(zeroize::Zeroizing::new).unwrap_or_default();
        let said = |name: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(ABOUT));
            lines
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        Self {
            tenant: said("tenant").and_then(|it| Tenant::new(it).ok()),
            principal: said("principal").and_then(|it| Principal::new(it).ok()),
            inbox: said("inbox"),
        }
    }
}

/// A credentials file for the user with `seed`; other NATS tools read it as an nkey file.
pub fn credentials_file(about: &About, seed: &Secret) -> Secret {
    let said = [
        ("tenant", about.tenant.as_ref().map(ToString::to_string)),
        ("principal", about.principal.as_ref().map(ToString::to_string)),
        ("inbox", about.inbox.clone()),
    ];
    let lines: String =
        said.into_iter().filter_map(|(name, value)| value.map(|value| format!("{ABOUT}{name}={value}\n"))).collect();
    Secret::new(format!("{lines}{SEED_BEGIN}\n{}\n{SEED_END}\n", seed.reveal()))
}

/// The seed in the text of a credentials file without a JWT.
pub fn seed_of(text: &str) -> Option<Secret> {
    if text.contains(JWT_BEGIN) {
        return None;
    }
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"))?;
    nkeys::KeyPair::from_seed(seed).ok().map(|_| Secret::new(seed))
}

/// Options for a connection of `auth` over `tls`. `Err` says what cannot be used.
pub(crate) async fn options(auth: &Auth, tls: &Tls, inbox: Option<&str>) -> Result<ConnectOptions, String> {
    let mut options = ConnectOptions::new();
    let mut inbox = inbox.map(str::to_owned);
    options = match auth {
        Auth::None => options,
        Auth::Credentials(path) => {
            let bad = |why: &dyn std::fmt::Display| format!("credentials file {}: {why}", path.display());
            let text =
                tokio::fs::read_to_string(path).await.map(zeroize::Zeroizing::new).map_err(|error| bad(&error))?;
            inbox = inbox.or_else(|| About::read(path).inbox);
            match seed_of(&text) {
                Some(seed) => options.nkey(seed.reveal().to_owned()),
                // The library's own words could hold a piece of the file.
                None => options
                    .credentials(&text)
                    .map_err(|_| bad(&"it holds neither a JWT with its seed nor the seed of a user"))?,
            }
        }
        Auth::User { user, password } => options.user_and_password(user.clone(), password.reveal().to_owned()),
        Auth::Nkey(seed) => options.nkey(seed.reveal().to_owned()),
        Auth::Token(token) => options.token(token.reveal().to_owned()),
    };
    options = options.require_tls(tls.required);
    if let Some(path) = &tls.authorities {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &tls.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let inbox = inbox.unwrap_or_else(|| INBOX.to_owned());
    // It becomes part of a subject; the library believes it blindly.
    if inbox.is_empty() || inbox.contains(['*', '>', ' ']) || inbox.starts_with('.') || inbox.ends_with('.') {
        return Err(format!("the inbox prefix {inbox:?} is no subject: use one like {INBOX}.acme.ann"));
    }
    Ok(options.custom_inbox_prefix(inbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let password = || Secret::new("hunter2");
        for auth in
            [Auth::User { user: "ann".into(), password: password() }, Auth::Nkey(password()), Auth::Token(password())]
        {
            assert!(!format!("{auth} {auth:?} {auth:#?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_credentials_file_says_who_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ann.nk");
        let seed = Secret::new(nkeys::KeyPair::new_user().seed().unwrap());
        let about = About {
            tenant: Tenant::new("acme").ok(),
            principal: Principal::new("ann").ok(),
            inbox: Some("_INBOX.acme.ann".into()),
        };
        let text = credentials_file(&about, &seed);
        std::fs::write(&file, text.reveal()).unwrap();
        assert_eq!(About::read(&file), about);
        assert_eq!(seed_of(text.reveal()), Some(seed));
        assert_eq!(About::read(&dir.path().join("none")), About::default());
        assert_eq!(seed_of("SUNOTASEED"), None);
        assert_eq!(seed_of(&format!("{JWT_BEGIN}\n{}", text.reveal())), None, "a JWT needs its own reader");
    }

    #[test]
    fn a_login_may_stand_in_an_address() {
        let addresses = ["nats://ann:p:w@a:1", "b:2", "tls://other@c"].map(str::to_owned);
        let (auth, bare) = from_addresses(&addresses);
        assert_eq!(auth, Auth::User { user: "ann".into(), password: "p:w".into() });
        assert_eq!(bare, ["nats://a:1", "b:2", "tls://c"]);
        assert_eq!(from_addresses(&addresses[2..]).0, Auth::Token("other".into()));
        assert_eq!(from_addresses(&addresses[1..2]).0, Auth::None);
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_said_without_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bad.creds");
        std::fs::write(&file, "-----BEGIN USER NKEY SEED-----\nSUhunter2\n").unwrap();
        let error = options(&Auth::Credentials(file), &Tls::default(), None).await.unwrap_err();
        assert!(error.contains("bad.creds") && !error.contains("hunter2"), "{error}");
        for bad in ["", "a.*", ">", "a b", "a.", ".a"] {
            assert!(options(&Auth::None, &Tls::default(), Some(bad)).await.is_err(), "{bad:?}");
        }
    }
}
