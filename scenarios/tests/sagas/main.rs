//! What a saga does, on a real node and a real server: the whole way from a command to the effect
//! in the world and back.

mod children;
mod edges;
mod events;
mod forks;
mod plain;
mod stuck;
mod waiting;

use protocol::view::SagaView;
use scenarios::stage::Shared;

static STAGE: Shared = Shared::new(1);

/// `Error: Cause` of how it ended, or the empty text.
fn trouble(view: &SagaView) -> String {
    let outcome = view.outcome.as_ref().expect("it has ended");
    match (&outcome.error, &outcome.cause) {
        (Some(error), Some(cause)) => format!("{error}: {cause}"),
        (Some(error), None) => error.clone(),
        (None, _) => String::new(),
    }
}
