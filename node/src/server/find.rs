//! Where the nats-server comes from: a setting, the environment, the path, Skald's own cache, and
//! at last a pinned download into that cache.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::obtain::{self, ObtainError, PINNED_VERSION};

/// The oldest nats-server that Skald runs on: per-message time to live, which leases are made of,
/// came with 2.11.
pub const OLDEST_SERVER: Version = Version { major: 2, minor: 11, patch: 0 };

/// The environment variable that names the nats-server to use.
pub const SERVER_VARIABLE: &str = "SKALD_NATS_SERVER";

/// How long `nats-server --version` may take: it prints one line, but a cold disk can be slow.
const VERSION_WITHIN: Duration = Duration::from_secs(20);

/// A server's version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// Changes when everything may.
    pub major: u32,
    /// Changes with new abilities.
    pub minor: u32,
    /// Changes with corrections.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads `2.15.1`, `v2.15.1` and `2.12.0-RC.3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a version");
        let core = text.trim().trim_start_matches('v');
        let core = core.split(['-', '+']).next().unwrap_or_default();
        let mut parts = core.split('.').map(str::parse::<u32>);
        let mut next = || parts.next().and_then(Result::ok).ok_or_else(bad);
        Ok(Self { major: next()?, minor: next()?, patch: next()? })
    }
}

/// Which of the places a server was found in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The setting `nats.server` names it.
    Setting,
    /// The environment variable names it.
    Environment,
    /// It is on the path.
    Path,
    /// It was obtained earlier.
    Cache,
    /// It was obtained just now.
    Obtained,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setting => "the setting",
            Self::Environment => SERVER_VARIABLE,
            Self::Path => "the path",
            Self::Cache => "Skald's cache",
            Self::Obtained => "a verified download",
        })
    }
}

/// A usable nats-server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The program.
    pub path: PathBuf,
    /// What it says its version is.
    pub version: Version,
    /// Where it was found.
    pub origin: Origin,
}

/// Why there is no usable nats-server.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The one that was asked for by name is too old; another is not taken silently.
    #[error(
        "{path} ({origin}) is nats-server {version}; Skald needs {OLDEST_SERVER} or later: \
         upgrade it, name another with {SERVER_VARIABLE}, or name none and let Skald find one",
        path = path.display()
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
        /// Where it was named.
        origin: Origin,
    },
    /// The one that was asked for by name does not run, or is something else.
    #[error("{path} ({origin}) is not a usable nats-server: {why}", path = path.display())]
    Unusable {
        /// The program.
        path: PathBuf,
        /// Where it was named.
        origin: Origin,
        /// What happened.
        why: String,
    },
    /// None was found and none may be fetched.
    #[error(
        "no nats-server {OLDEST_SERVER} or later was found{passed}: install one, or name it with \
         {SERVER_VARIABLE}; fetching one is switched off"
    )]
    None {
        /// What was looked at and passed over.
        passed: String,
    },
    /// None was found and fetching one failed.
    #[error("no nats-server {OLDEST_SERVER} or later was found{passed}, and it could not be obtained")]
    Obtain {
        /// What was looked at and passed over.
        passed: String,
        /// Why not.
        #[source]
        source: ObtainError,
    },
}

/// Looks for a nats-server, in the order of [`Origin`].
#[derive(Clone, Debug)]
pub struct Finder {
    /// The program named by the setting, if any.
    pub setting: Option<PathBuf>,
    /// The program named by the environment, if any.
    pub environment: Option<PathBuf>,
    /// The directories to look in.
    pub path: Vec<PathBuf>,
    /// Skald's cache.
    pub cache: PathBuf,
    /// Whether a server may be fetched when there is none.
    pub obtain: bool,
}

impl Finder {
    /// A finder for this process: `setting`, the environment, the path, and the user's cache.
    pub fn new(setting: Option<PathBuf>) -> Self {
        Self {
            setting,
            environment: std::env::var_os(SERVER_VARIABLE).filter(|it| !it.is_empty()).map(PathBuf::from),
            path: std::env::var_os("PATH").map(|it| std::env::split_paths(&it).collect()).unwrap_or_default(),
            cache: cache_root(std::env::var_os("XDG_CACHE_HOME").as_deref(), std::env::var_os("HOME").as_deref()),
            obtain: true,
        }
    }

    /// Finds a server, fetching one if there is none. `say` hears what is done that takes time or
    /// may surprise; everything is traced as well.
    pub async fn find(&self, say: impl Fn(&str) + Send + Sync) -> Result<Found, FindError> {
        let say = |line: &str| {
            tracing::info!("{line}");
            say(line);
        };
        let named = [(&self.setting, Origin::Setting), (&self.environment, Origin::Environment)];
        for (path, origin) in named {
            let Some(path) = path else { continue };
            let version =
                version_of(path).await.map_err(|why| FindError::Unusable { path: path.clone(), origin, why })?;
            if version < OLDEST_SERVER {
                return Err(FindError::TooOld { path: path.clone(), version, origin });
            }
            return Ok(told(Found { path: path.clone(), version, origin }, &say));
        }
        let mut passed = String::new();
        let on_path = self.path.iter().map(|dir| (dir.join("nats-server"), Origin::Path));
        for (path, origin) in on_path.chain([(self.cached(), Origin::Cache)]) {
            if !path.is_file() {
                continue;
            }
            match version_of(&path).await {
                Ok(version) if version >= OLDEST_SERVER => return Ok(told(Found { path, version, origin }, &say)),
                Ok(version) => {
                    passed.push_str(&format!("; {} is {version}, too old", path.display()));
                }
                Err(why) => passed.push_str(&format!("; {} is not usable ({why})", path.display())),
            }
        }
        if !self.obtain {
            return Err(FindError::None { passed });
        }
        say(&format!("no usable nats-server found{passed}; fetching nats-server {PINNED_VERSION} once"));
        match obtain::obtain(&self.cached(), &say).await {
            Ok(version) => Ok(told(Found { path: self.cached(), version, origin: Origin::Obtained }, &say)),
            Err(source) => Err(FindError::Obtain { passed, source }),
        }
    }

    /// Where an obtained server is kept.
    pub fn cached(&self) -> PathBuf {
        self.cache.join(format!("nats-server-{PINNED_VERSION}")).join("nats-server")
    }
}

fn told(found: Found, say: &impl Fn(&str)) -> Found {
    say(&format!("nats-server {} from {}: {}", found.version, found.origin, found.path.display()));
    found
}

fn cache_root(xdg: Option<&OsStr>, home: Option<&OsStr>) -> PathBuf {
    let set = |it: Option<&OsStr>| it.filter(|it| !it.is_empty()).map(PathBuf::from);
    let base = set(xdg).or_else(|| set(home).map(|home| home.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("skald")
}

/// Asks `program` for its version.
pub(super) async fn version_of(program: &Path) -> Result<Version, String> {
    let run = tokio::process::Command::new(program)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(VERSION_WITHIN, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("it does not run: {error}")),
        Err(_) => return Err(format!("it did not tell its version within {} s", VERSION_WITHIN.as_secs())),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().strip_prefix("nats-server:").map(str::parse);
    match version {
        Some(Ok(version)) => Ok(version),
        Some(Err(_)) | None => {
            let shown: String = text.chars().take(120).collect();
            Err(format!("asked for its version it said {:?}", shown.trim()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let read = |text: &str| text.parse::<Version>();
        assert_eq!(read("v2.15.1").unwrap().to_string(), "2.15.1");
        assert!(read("2.12.0-RC.3").unwrap() > OLDEST_SERVER);
        assert!(read("v2.10.26").unwrap() < OLDEST_SERVER);
        for bad in ["", "2", "2.x.1", "nats"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_cache_follows_the_users_wish() {
        let root = |xdg: &str, home: &str| cache_root(Some(OsStr::new(xdg)), Some(OsStr::new(home)));
        assert_eq!(root("/x", "/h"), Path::new("/x/skald"));
        assert_eq!(root("", "/h"), Path::new("/h/.cache/skald"));
    }
}
