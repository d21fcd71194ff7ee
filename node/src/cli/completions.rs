use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::context::Ctx;
use super::{Cli, Ended, Ending};

/// Writes completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald completions bash > ~/.local/share/bash-completion/completions/skald

Next: open a new shell and press Tab after `skald `")]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: &Completions, ctx: &Ctx) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "skald", &mut script);
    ctx.out.put(String::from_utf8_lossy(&script));
    Ok(Ending::Done)
}
