//! The configuration of a nats-server that holds every connection to its permissions.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use protocol::subjects;

use super::{Permissions, Who, permissions};
use crate::server::MAX_PAYLOAD_BYTES;

/// How long a worker may take to answer what it was asked; longer work answers `accepted`.
const ANSWER_WITHIN: &str = "1h";

/// One login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Who it is.
    pub who: Who,
    /// The public half of its nkey.
    pub public: String,
}

/// How the server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Where clients connect.
    pub at: SocketAddr,
    /// Where JetStream keeps everything.
    pub store: PathBuf,
    /// The server's certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Authorities of certificates that clients must show.
    pub tls_authorities: Option<PathBuf>,
}

/// The whole file: `users`, and for the server's own affairs the user with nkey `system`.
pub fn server_config(listen: &Listen, users: &[User], system: &str) -> String {
    let mut text = String::from(
        "# A nats-server for Skald. Written by `skald nats config`: run it again to add users; keys are kept.\n\
         # Every line about permissions says what may be done; all else is refused.\n",
    );
    let mut line = |it: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(it);
        text.push('\n');
    };
    line(format_args!("server_name: \"skald\"\nlisten: {}", quoted(&listen.at.to_string())));
    line(format_args!(
        "# Looked at by nodes, to know when the server writes through to the disk. It asks for no password: whoever"
    ));
    line(format_args!(
        "# may connect to it reads who is connected, and which subjects they listen to, but no message."
    ));
    line(format_args!("http: \"127.0.0.1:8222\"\nmax_payload: {MAX_PAYLOAD_BYTES}"));
    line(format_args!("max_pending: {}", MAX_PAYLOAD_BYTES * 16));
    let store = listen.store.to_string_lossy();
    line(format_args!("jetstream {{\n  store_dir: {}\n  sync_interval: always\n}}", quoted(&store)));
    if let Some((certificate, key)) = &listen.tls {
        line(format_args!("tls {{\n  cert_file: {}", quoted(&certificate.to_string_lossy())));
        line(format_args!("  key_file: {}", quoted(&key.to_string_lossy())));
        if let Some(authorities) = &listen.tls_authorities {
            line(format_args!("  ca_file: {}\n  verify: true", quoted(&authorities.to_string_lossy())));
        }
        line(format_args!("}}"));
    }
    text.push_str(&user_block(users, system));
    text
}

/// The accounts with their users: one for all of Skald, with JetStream, and the server's own.
pub fn user_block(users: &[User], system: &str) -> String {
    let mut text = String::from("accounts {\n  SKALD {\n    jetstream: enabled\n");
    let (from, to) = subjects::TO_DOORS;
    text.push_str(
        "    # What one tenant sends stands in no other tenant's way: commands come to nodes by several doors.\n",
    );
    let _ = writeln!(text, "    mappings: {{ {}: {} }}\n    users: [", quoted(from), quoted(to));
    for User { who, public } in users {
        let Permissions { publish, subscribe, answers } = permissions(who);
        let _ = writeln!(text, "      # {}", title(who));
        let _ = writeln!(text, "      {{ nkey: {public}, permissions: {{");
        let _ = writeln!(text, "        publish: {{ allow: {} }}", list(&publish));
        let _ = writeln!(text, "        subscribe: {{ allow: {} }}", list(&subscribe));
        if answers {
            let _ = writeln!(text, "        allow_responses: {{ max: 1, expires: \"{ANSWER_WITHIN}\" }}");
        }
        text.push_str("      } }\n");
    }
    let _ = writeln!(text, "    ]\n  }}\n  SYS {{ users: [ {{ nkey: {system} }} ] }}\n}}\nsystem_account: SYS");
    text
}

fn title(who: &Who) -> String {
    match who {
        Who::Node => "the nodes".into(),
        Who::Tenant { tenant, principals, roles } => {
            let principals: Vec<_> = principals.iter().map(ToString::to_string).collect();
            let roles: Vec<_> = roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
            format!("{} of tenant {tenant}: {}", principals.join(", "), roles.join(", "))
        }
        Who::Observer { name } => format!("{name} looks on"),
    }
}

/// A list of subjects, one a line where there are several.
fn list(subjects: &[String]) -> String {
    let subjects: Vec<_> = subjects.iter().map(|subject| quoted(subject)).collect();
    match subjects.as_slice() {
        [one] => format!("[{one}]"),
        many => format!("[\n          {}\n        ]", many.join("\n          ")),
    }
}

/// A text as the server reads it. Only control characters are written otherwise than in Rust, and a
/// path with one of those is none of ours.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}
