//! What the API server refuses, in the port's words.

use kube::Error;
use kube::core::Status;
use supervisor::activity::Failure;

/// What `error` means for whoever was `doing` something.
pub fn failure(doing: &str, error: Error) -> Failure {
    match error {
        Error::Api(status) => refused(doing, &status),
        // The connection, TLS, a credential plugin: whoever mends it need not ask again.
        other => Failure::transient(doing, chain(&other)),
    }
}

fn refused(doing: &str, status: &Status) -> Failure {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let owned = causes.clone().any(|cause| cause.reason == "FieldManagerConflict");
    let said = format!("{doing}: {}", status.message);
    match status.code {
        409 if owned => Failure::named(
            "OwnedElsewhere",
            format!("{said}; let that manager give the fields up, or change them there"),
        ),
        401 | 403 => Failure::named("NotPermitted", format!("{said}; grant Skald's account that")),
        404 => Failure::named("NamespaceMissing", format!("{said}; make the namespace, or set another one")),
        400 | 413 | 415 | 422 => Failure::named("BadSet", said),
        // Somebody was faster, too many requests, a server that is starting or stopping.
        _ => Failure::transient(doing, &status.message),
    }
}

/// Whether it says that the object is not there.
pub fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// An error with its causes: the outermost of a client's errors rarely says why.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, cause: Option<&str>) -> (String, bool) {
        let details = cause.map(|reason| serde_json::json!({ "causes": [{ "reason": reason }] }));
        let status = serde_json::json!({ "code": code, "message": "no", "reason": "x", "details": details });
        let failure = failure("applying", Error::Api(Box::new(serde_json::from_value(status).unwrap())));
        (failure.error, failure.permanent)
    }

    #[test]
    fn each_refusal_has_its_name() {
        let named = |name: &str| (name.to_owned(), true);
        let passes = ("Transient".to_owned(), false);
        assert_eq!(of(409, Some("FieldManagerConflict")), named("OwnedElsewhere"));
        assert_eq!(of(409, None), passes);
        assert_eq!(of(403, None), named("NotPermitted"));
        assert_eq!(of(404, None), named("NamespaceMissing"));
        assert_eq!(of(422, None), named("BadSet"));
        for code in [429, 500, 503, 504] {
            assert_eq!(of(code, None), passes, "{code}");
        }
    }
}
