//! Where a tenant's targets may be. A node can write more than any one tenant should reach, so
//! what a saga names is checked before anything is read (W073): as it is written, and again with
//! all links followed.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use protocol::Tenant;

use super::project::{Error, read_text};

/// Stands for the tenant's name in a root.
pub const TENANT: &str = "{tenant}";

/// The rule of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Any directory that the node can write: one machine of one person.
    Anywhere,
    /// Directories below one of these, in which [`TENANT`] stands for the tenant. None: nowhere.
    Below(Vec<String>),
}

impl Targets {
    /// What the rule means for `tenant`.
    pub fn of(&self, tenant: &Tenant) -> Allowed {
        let roots = match self {
            Self::Anywhere => None,
            Self::Below(roots) => {
                Some(roots.iter().map(|root| PathBuf::from(root.replace(TENANT, tenant.as_str()))).collect())
            }
        };
        Allowed { tenant: tenant.to_string(), roots }
    }
}

/// What one tenant may reach.
#[derive(Debug, Clone)]
pub struct Allowed {
    tenant: String,
    /// `None`: everything.
    roots: Option<Vec<PathBuf>>,
}

impl Allowed {
    /// The directory that `target` is on this machine. `None`: there is none.
    pub fn place(&self, target: &Path) -> Result<Option<PathBuf>, Error> {
        let plain = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !target.is_absolute() || !plain {
            return Err(Error::Unsuitable(format!(
                "the target {} is not a plain absolute path; name the directory from the root on, without \"..\"",
                target.display()
            )));
        }
        let inside = |roots: &Vec<PathBuf>| roots.iter().any(|root| below(target, root));
        if !self.roots.as_ref().is_none_or(inside) {
            return Err(self.refusal("the target", target));
        }
        let found = self.follow("the target", target)?;
        Ok(found.filter(|found| found.is_dir()))
    }

    /// `path` with all links followed, which must not lead out. `None`: there is nothing.
    pub fn follow(&self, what: &str, path: &Path) -> Result<Option<PathBuf>, Error> {
        match fs::canonicalize(path) {
            Ok(found) => {
                let inside = |roots: &Vec<PathBuf>| {
                    roots.iter().filter_map(|root| fs::canonicalize(root).ok()).any(|root| found.starts_with(root))
                };
                if self.roots.as_ref().is_none_or(inside) { Ok(Some(found)) } else { Err(self.refusal(what, path)) }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(Error::Io { doing: format!("looking at {what} {}", path.display()), source }),
        }
    }

    /// The text of a file of a target. `None`: there is none.
    pub fn read(&self, path: &Path) -> Result<Option<String>, Error> {
        self.follow("the file", path)?.map_or(Ok(None), |found| read_text(&found))
    }

    fn refusal(&self, what: &str, path: &Path) -> Error {
        let roots: Vec<String> = self.roots.iter().flatten().map(|root| format!("below {}", root.display())).collect();
        let path = path.display();
        Error::Unsuitable(if roots.is_empty() {
            format!("{what} {path} is refused: this node installs nowhere; name directories in catalog.target_roots")
        } else {
            format!(
                "{what} {path} is outside of what {} may reach; choose one {}, without links that lead out, \
                 or add a root to catalog.target_roots",
                self.tenant,
                roots.join(" or ")
            )
        })
    }
}

/// Whether `path`, as it is written, is `root` or below it, as that is written or really is.
fn below(path: &Path, root: &Path) -> bool {
    path.starts_with(root) || fs::canonicalize(root).is_ok_and(|root| path.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn allowed(root: &Path) -> Allowed {
        let rule = Targets::Below(vec![format!("{}/{TENANT}", root.display())]);
        rule.of(&Tenant::new("acme").unwrap())
    }

    #[test]
    fn a_tenant_stays_below_its_root() {
        let dir = tempfile::tempdir().unwrap();
        for at in ["acme/shop", "other/shop", "acmes"] {
            fs::create_dir_all(dir.path().join(at)).unwrap();
        }
        symlink("../other/shop", dir.path().join("acme/link")).unwrap();
        symlink("shop", dir.path().join("acme/alias")).unwrap();
        let place = |at: &str| allowed(dir.path()).place(&dir.path().join(at));
        assert!(place("acme/shop").unwrap().unwrap().ends_with("acme/shop"));
        assert!(place("acme/alias").unwrap().unwrap().ends_with("acme/shop"));
        assert_eq!(place("acme/later").unwrap(), None);
        for out in ["other/shop", "other/nothing", "acmes", "acme/link", "acme/../other/shop"] {
            let refused = place(out).unwrap_err().to_string();
            assert!(refused.contains("acme") && !refused.contains("exist"), "{out}: {refused}");
        }
    }

    #[test]
    fn a_relative_path_is_refused_everywhere() {
        let tenant = Tenant::new("acme").unwrap();
        for path in ["shop", "./shop", "../shop", ""] {
            let refused = Targets::Anywhere.of(&tenant).place(Path::new(path)).unwrap_err().to_string();
            assert!(refused.contains("absolute"), "{refused}");
        }
        let nowhere = Targets::Below(Vec::new()).of(&tenant).place(Path::new("/srv")).unwrap_err().to_string();
        assert!(nowhere.contains("catalog.target_roots"), "{nowhere}");
    }

    #[test]
    fn the_tenant_follows_links_of_the_root_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("disk/acme/shop")).unwrap();
        symlink("disk", dir.path().join("srv")).unwrap();
        let root = dir.path().join("srv");
        for at in ["srv/acme/shop", "disk/acme/shop"] {
            assert!(allowed(&root).place(&dir.path().join(at)).unwrap().is_some(), "{at}");
        }
    }
}
