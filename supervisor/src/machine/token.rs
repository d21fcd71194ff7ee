//! What a late answer names its attempt by. It is read by anybody and made by nobody else: the
//! proof in it is a hash over the attempt with the saga's secret, which stands in the journal only.
//!
//! ```text
//! step:attempt:tenant/key:proof
//! ```

use protocol::SagaId;
use sha2::{Digest, Sha256};

use super::execution::Execution;
use super::fact::AttemptRef;

/// Bytes of the hash that a token carries.
const PROOF_BYTES: usize = 16;

/// What `token` names; whether it is genuine only its saga can tell.
pub fn read_token(token: &str) -> Option<(SagaId, AttemptRef)> {
    let mut parts = token.splitn(4, ':');
    let step = parts.next()?.parse().ok()?;
    let attempt = parts.next()?.parse().ok()?;
    let saga = parts.next()?.parse().ok()?;
    Some((saga, AttemptRef { step, attempt }))
}

impl Execution {
    /// The token of `attempt`.
    pub fn token(&self, attempt: AttemptRef) -> String {
        let named = format!("{}:{}:{}", attempt.step, attempt.attempt, self.saga);
        match self.start.as_ref().and_then(|start| start.secret.as_deref()) {
            Some(secret) => format!("{named}:{}", proof(secret, &named)),
            // Started by a release that gave sagas no secret.
            None => named,
        }
    }

    /// Whether `token` is the one of the attempt that it names.
    pub fn gave(&self, token: &str) -> bool {
        read_token(token).is_some_and(|(_, attempt)| same(self.token(attempt).as_bytes(), token.as_bytes()))
    }
}

/// Hashed twice, so that no longer text has a proof that follows from this one's.
fn proof(secret: &str, named: &str) -> String {
    let inner = Sha256::new().chain_update(secret).chain_update(":").chain_update(named).finalize();
    let outer = Sha256::new().chain_update(secret).chain_update(inner).finalize();
    hex::encode(&outer[..PROOF_BYTES])
}

/// Takes as long for every wrong text of the same length.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back() {
        for text in ["7:2:acme/install/7", "7:2:acme/install/7:00ff"] {
            let (saga, attempt) = read_token(text).unwrap();
            assert_eq!((saga.to_string().as_str(), attempt.step, attempt.attempt), ("acme/install/7", 7, 2));
        }
        for bad in ["", "7", "7:2", "x:2:a/b", "7:2:a"] {
            assert!(read_token(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_proof_follows_from_the_secret_and_the_attempt() {
        let known = proof("s1", "7:2:acme/install");
        assert_eq!((known.len(), &known), (2 * PROOF_BYTES, &proof("s1", "7:2:acme/install")));
        assert_ne!(known, proof("s2", "7:2:acme/install"));
        assert_ne!(known, proof("s1", "7:3:acme/install"));
        assert!(same(b"ab", b"ab") && !same(b"ab", b"ac") && !same(b"ab", b"a"));
    }
}
