use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use protocol::command;
use protocol::view::Status;

use crate::debug;

use super::context::Ctx;
use super::{Ended, Ending};

/// Lists the tenant's sagas, newest first
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald list --status stuck
  skald list --definition installation --limit 20 --json

Next: skald show KEY")]
pub(super) struct List {
    /// Only sagas in this status
    #[arg(long, value_parser = words())]
    status: Option<Status>,
    /// Only sagas of this definition
    #[arg(long, value_name = "NAME")]
    definition: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// The words of all statuses.
fn words() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.map(Status::word))
        .try_map(|word| Status::ALL.into_iter().find(|status| status.word() == word).ok_or("no status is called that"))
}

pub(super) async fn run(args: List, ctx: &Ctx) -> Ended {
    let list = command::List { status: args.status, definition: args.definition, limit: Some(args.limit) };
    let listed = ctx.connect().await?.listed(&list).await?;
    let rows = listed.sagas;
    ctx.out.answer(
        &rows,
        |rows, paint| {
            if rows.is_empty() { "no sagas\n".to_owned() } else { debug::render_rows(rows, paint) }
        },
    );
    for missing in listed.missing {
        ctx.out.say_painted(format_args!("{} {missing}", ctx.out.paint.warn("not all:")));
    }
    if rows.len() == args.limit {
        ctx.out.next(&format!("there may be more than {}: --limit N, --status or --definition", args.limit));
    }
    Ok(Ending::Done)
}
