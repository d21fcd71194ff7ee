//! What every adapter of [`DesiredState`] must do.

use super::{Commit, DesiredState, Empty, Limits};
use crate::runtime::model::{EnvironmentId, ServiceId};

/// The other end: whoever writes down what is wanted.
pub trait Author {
    /// Writes a file, which counts from the next commit on.
    fn write(&self, path: &str, bytes: &[u8]);
    /// Removes a file.
    fn remove(&self, path: &str);
    /// Makes a link at `path`.
    fn link(&self, path: &str, to: &str);
    /// Commits all of it, and makes it what adapters see. Answers the commit.
    fn commit(&self) -> Commit;
    /// Takes the last commit back: the branch is where it was before.
    fn back(&self) -> Commit;
}

/// A proper file.
pub fn service(name: &str, environment: &str, replicas: u32) -> String {
    let digest = format!("sha256:{}", "0a".repeat(32));
    format!(
        "serviceId: {name}\ntenantId: acme\nenvironmentId: {environment}\nimage: {digest}\nversion: 1.0.0\n\
         replicas: {replicas}\ntarget: continuous\n"
    )
}

/// Small enough to be reached.
pub const LIMITS: Limits = Limits { files: 5, file_bytes: 2_000, total_bytes: 3_000 };

/// Holds `adapter`, which has [`LIMITS`], to the port's promises.
pub async fn hold(adapter: &dyn DesiredState, author: &dyn Author) {
    let prod = EnvironmentId::new("prod").unwrap();
    let read = async |empty| adapter.read(&prod, empty).await;
    let name = async || read(Empty::Refused).await.unwrap_err().error;

    // A branch that is not there.
    assert_eq!(name().await, "UnknownBranch");

    // Nothing is wanted: a mistake, unless it is meant.
    author.write("README.md", b"What we want.");
    let first = author.commit();
    assert_eq!(name().await, "DesiredStateEmpty");
    let empty = read(Empty::Allowed).await.unwrap();
    assert_eq!((empty.commit, empty.services.len()), (first, 0));

    // Services, and nothing of other environments or directories.
    author.write("environments/prod/orders.yaml", service("orders", "prod", 3).as_bytes());
    author.write("environments/prod/bills.yaml", service("bills", "prod", 2).as_bytes());
    author.write("environments/prod/NOTES", b"notes may stand here");
    author.write("environments/prod2/orders.yaml", b"not: looked at");
    author.write("environments/prod/old/orders.yaml", b"not: looked at");
    let second = author.commit();
    let wanted = read(Empty::Refused).await.unwrap();
    assert_eq!(wanted.commit, second);
    let replicas: Vec<(&str, u32)> = wanted.services.iter().map(|(id, spec)| (id.as_str(), spec.replicas)).collect();
    assert_eq!(replicas, [("bills", 2), ("orders", 3)]);
    assert_eq!(read(Empty::Refused).await.unwrap(), wanted, "the same commit reads the same");

    // What is not committed does not count.
    author.write("environments/prod/orders.yaml", service("orders", "prod", 7).as_bytes());
    assert_eq!(read(Empty::Refused).await.unwrap(), wanted);

    // A new commit counts at once, and so does the way back.
    let third = author.commit();
    let orders = ServiceId::new("orders").unwrap();
    let changed = read(Empty::Refused).await.unwrap();
    assert_eq!((&changed.commit, changed.services[&orders].replicas), (&third, 7));
    assert_eq!(author.back(), second);
    assert_eq!(read(Empty::Refused).await.unwrap(), wanted);

    // One bad file and nothing is wanted: every fault is told with its line.
    let bad = service("bills", "prod", 2).replace("version", "verson") + "\n";
    author.write("environments/prod/bills.yaml", bad.as_bytes());
    author.write("environments/prod/mail.yml", b"");
    author.write("environments/prod/text.yaml", &[0xff, 0xfe]);
    author.commit();
    let refused = read(Empty::Refused).await.unwrap_err();
    assert_eq!((refused.error.as_str(), refused.permanent), ("DesiredStateInvalid", true));
    assert_eq!(refused.cause, "environments/prod/mail.yml: it is not read; let its name end in .yaml");
    author.remove("environments/prod/mail.yml");
    author.commit();
    let refused = read(Empty::Refused).await.unwrap_err();
    let lines: Vec<&str> = refused.cause.lines().collect();
    assert!(lines[0].starts_with("environments/prod/bills.yaml:1: .: missing field `version`"), "{refused}");
    assert_eq!(lines[1], "environments/prod/text.yaml: it is not UTF-8; save it as UTF-8");
    author.remove("environments/prod/text.yaml");

    // A link is no file.
    author.remove("environments/prod/bills.yaml");
    author.link("environments/prod/bills.yaml", "../../../../etc/passwd");
    author.commit();
    let refused = read(Empty::Refused).await.unwrap_err();
    assert_eq!(refused.cause, "environments/prod/bills.yaml: it is no file; put the file itself there");
    author.remove("environments/prod/bills.yaml");

    // Each limit answers.
    author.write("environments/prod/large.yaml", &[b' '; 2_001]);
    author.commit();
    assert_eq!(name().await, "DesiredStateTooLarge");
    author.remove("environments/prod/large.yaml");
    for n in 0..2 {
        author.write(&format!("environments/prod/fat{n}.yaml"), &[b' '; 1_999]);
    }
    author.commit();
    assert_eq!(name().await, "DesiredStateTooLarge");
    for n in 0..2 {
        author.remove(&format!("environments/prod/fat{n}.yaml"));
    }
    for n in 0..5 {
        author.write(&format!("environments/prod/s{n}.yaml"), service(&format!("s{n}"), "prod", 1).as_bytes());
    }
    author.commit();
    assert_eq!(name().await, "DesiredStateTooLarge");
    author.remove("environments/prod/s0.yaml");
    author.commit();
    assert_eq!(read(Empty::Refused).await.unwrap().services.len(), 5);

    // Names that lead elsewhere.
    for name in [".", ".."] {
        let refused = adapter.read(&EnvironmentId::new(name).unwrap(), Empty::Allowed).await.unwrap_err();
        assert_eq!(refused.error, "DesiredStateInvalid");
    }
}
