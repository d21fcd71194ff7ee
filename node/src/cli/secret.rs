use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::runtime::{BindSecret, ListSecrets, OfSecret, PutSecret, SecretRow, SecretValue, UnbindSecret};

use crate::debug;

use super::confirm::confirm;
use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, duration};

/// Keeps secrets that services use, and changes them while they run
#[derive(Args, Debug)]
#[command(after_help = "\
A value is kept sealed on the machine of the processes, and is shown by no command. Processes find
the secret db-password in their variable DB_PASSWORD. A new value is tested before it counts, the
services take it over replica by replica, and the old one is retired when all of them run on it.

Example:
  skald secret put db-password --environment dev --file password.txt
  skald secret bind db-password --environment dev --service web --rotate-every 30d
  skald secret rotate db-password --environment dev

Next: skald secret list --environment dev")]
pub(super) struct Secret {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Keeps a value: the first one counts at once, a later one when it was tested
    #[command(
        after_help = "The value is read from the file or from standard input, never from the arguments, which others on\nthe machine can see. One line end at its end is left out.\n\nExample:\n  skald secret put db-password --environment dev --file password.txt\n\nNext: skald secret bind db-password --environment dev --service web"
    )]
    Put {
        #[command(flatten)]
        of: Of,
        /// The file that holds the value; standard input when not given
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Lets a service use a secret from its next deployment on, and says how often it changes
    #[command(
        after_help = "Example:\n  skald secret bind db-password --environment dev --service web --rotate-every 30d\n\nNext: skald deploy web --environment dev --artifact FILE"
    )]
    Bind {
        #[command(flatten)]
        of: Of,
        /// Which service is to use it
        #[arg(long, value_name = "NAME", required_unless_present = "rotate_every")]
        service: Option<String>,
        /// How often it changes by itself; 0s: on request only
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        rotate_every: Option<Duration>,
    },
    /// Lets a service use a secret no more from its next deployment on
    #[command(
        after_help = "What runs keeps the value that it was started with. The secret itself stays.\n\nExample:\n  skald secret unbind db-password --environment dev --service web\n\nNext: skald deploy web --environment dev --artifact FILE"
    )]
    Unbind {
        #[command(flatten)]
        of: Of,
        /// Which service
        #[arg(long, value_name = "NAME")]
        service: String,
    },
    /// Removes a secret that no service uses any more, with all its values
    #[command(
        after_help = "Example:\n  skald secret remove db-password --environment dev\n\nNext: skald secret list --environment dev"
    )]
    Remove {
        #[command(flatten)]
        of: Of,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Changes a secret now: to the value that was put and is not in use yet, else to one that is made up
    #[command(
        after_help = "A value of yours is brought by `skald secret put`, which begins the change by itself: after it\nhas ended, this one makes a new value up.\n\nExample:\n  skald secret rotate db-password --environment dev\n\nNext: skald secret list --environment dev"
    )]
    Rotate {
        #[command(flatten)]
        of: Of,
    },
    /// Lists secrets, who uses them and how far a change is; no values
    #[command(
        after_help = "Example:\n  skald secret list --environment dev\n\nNext: skald secret rotate NAME --environment dev"
    )]
    List {
        /// Name of the environment
        #[arg(long, short, value_name = "NAME")]
        environment: String,
    },
}

#[derive(Args, Debug)]
struct Of {
    /// Name of the secret: letters, digits, hyphens
    secret: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
}

pub(super) async fn run(args: Secret, ctx: &Ctx) -> Ended {
    match args.what {
        What::Put { of, file } => {
            let value = value(file)?;
            let Of { secret, environment } = of;
            let id = Some(uuid::Uuid::now_v7().simple().to_string());
            let put = PutSecret { environment: environment.clone(), secret: secret.clone(), value, id };
            let kept = ctx.connect().await?.put_secret(&put).await?;
            ctx.out.answer(&kept, |kept, _| match kept["current"].as_bool() {
                Some(true) => format!("version {} of {secret} counts\n", kept["version"]),
                Some(false) | None => format!("version {} of {secret} waits to be tested\n", kept["version"]),
            });
            ctx.out.next(&format!("next: skald secret list --environment {environment}"));
        }
        What::Bind { of, service, rotate_every } => {
            let rotate_every_ms = rotate_every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
            let Of { secret, environment } = of;
            let bind = BindSecret { environment, secret, service, rotate_every_ms };
            let bound = ctx.connect().await?.bind_secret(&bind).await?;
            ctx.out.answer(&bound, |row, paint| rows(std::slice::from_ref(row), paint));
            if let Some(service) = bind.service {
                ctx.out
                    .next(&format!("next: skald deploy {service} --environment {} --artifact FILE", bind.environment));
            }
        }
        What::Unbind { of, service } => {
            let Of { secret, environment } = of;
            let unbind = UnbindSecret { environment, secret, service };
            let stands = ctx.connect().await?.unbind_secret(&unbind).await?;
            ctx.out.answer(&stands, |row, paint| rows(std::slice::from_ref(row), paint));
            let UnbindSecret { environment, service, .. } = unbind;
            ctx.out.next(&format!("next: skald deploy {service} --environment {environment} --artifact FILE"));
        }
        What::Remove { of: Of { secret, environment }, yes } => {
            confirm(&format!("removing the secret {secret} of {environment} with all its values"), yes)?;
            let answer = ctx.connect().await?.remove_secret(&OfSecret { environment, secret }).await?;
            ctx.out.answer(&answer, |_, _| "removed\n".to_owned());
        }
        What::Rotate { of } => {
            let of = OfSecret { environment: of.environment, secret: of.secret };
            let answer = ctx.connect().await?.rotate_secret(&of).await?;
            ctx.out.answer(&answer, |answer, _| match answer["requested"].as_bool() {
                Some(true) => format!("{} will change\n", of.secret),
                Some(false) | None => format!("{} changes already\n", of.secret),
            });
            ctx.out.next(&format!("next: skald secret list --environment {}", of.environment));
        }
        What::List { environment } => {
            let listed = ctx.connect().await?.secrets(&ListSecrets { environment }).await?;
            ctx.out.answer(&listed.secrets, |secrets, paint| rows(secrets, paint));
        }
    }
    Ok(Ending::Done)
}

fn rows(secrets: &[SecretRow], paint: debug::Paint) -> String {
    let cells = secrets.iter().map(|row| {
        let bound: Vec<_> = row.bound.iter().map(|(service, version)| format!("{service} on {version}")).collect();
        let every = row.rotate_every_ms.map(|ms| format!("{} h", ms / 3_600_000)).unwrap_or_default();
        let rotation = row.rotation.clone().unwrap_or_default();
        vec![row.secret.clone(), row.variable.clone(), row.version.to_string(), bound.join(", "), every, rotation]
    });
    debug::table(&["SECRET", "VARIABLE", "VERSION", "USED BY", "EVERY", "ROTATION"], cells.collect(), paint)
}

/// The value, without the line end that editors and `echo` add.
fn value(file: Option<PathBuf>) -> Result<SecretValue, Fault> {
    let mut text = String::new();
    match file {
        Some(file) => {
            text = std::fs::read_to_string(&file)
                .map_err(|error| Fault::usage(format!("cannot read {}", file.display())).why(error.to_string()))?;
        }
        None => {
            if std::io::stdin().is_terminal() {
                eprintln!("the value, and then Ctrl-D:");
            }
            std::io::stdin().read_to_string(&mut text)?;
        }
    }
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    if text.is_empty() {
        return Err(Fault::usage("the value is empty").mend("name a file with --file, or write it to standard input"));
    }
    Ok(SecretValue(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_stands_in_the_file_but_for_the_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (written, expected) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
            std::fs::write(file.path(), written).unwrap();
            assert_eq!(value(Some(file.path().to_owned())).unwrap().0, expected);
        }
        std::fs::write(file.path(), "\n").unwrap();
        assert_eq!(value(Some(file.path().to_owned())).unwrap_err().exit, 2);
    }
}
