//! The commands that speak to a service, as they are written: `dockwright user|token|registry|audit|keys|app|run|ps|…`.

use std::path::PathBuf;

use super::build_commands::{Build, Retry};
use super::container_commands::{App, Exec, Image, LogPart, Network, Ps, Run, Volume};
use super::webhooks::Webhook;

/// Where in the help it stands how the service is reached.
const SERVICE: &str = "Service";

/// Which service, as whom, and how to show its answers.
#[derive(clap::Args)]
pub(super) struct Remote {
    /// Address of the service; else that of `dockwright login`, else http://127.0.0.1:8080
    #[arg(long, env = "DOCKWRIGHT_URL", value_name = "URL", global = true, help_heading = SERVICE)]
    pub url: Option<String>,
    /// File with a token; else DOCKWRIGHT_TOKEN, else that of `dockwright login`, else ./dockwright-data/admin-token
    #[arg(long, value_name = "FILE", global = true, help_heading = SERVICE)]
    pub token_file: Option<PathBuf>,
    /// PEM file with a certificate that is trusted besides the usual ones
    #[arg(long, env = "DOCKWRIGHT_CA_FILE", value_name = "FILE", global = true, help_heading = SERVICE)]
    pub ca_file: Option<PathBuf>,
    /// Print JSON, as the service answers
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(clap::Subcommand)]
pub(super) enum User {
    /// Accounts, newest first
    List,
    /// Make an account
    Add {
        /// 1 to 64 of a-z 0-9 . _ -
        name: String,
        /// Of the role admin: sees everything, and manages accounts
        #[arg(long)]
        admin: bool,
        /// Read a password from standard input; without one the account is used by tokens alone
        #[arg(long)]
        password_stdin: bool,
        /// Such as builds_running=2 or stored_bytes=1000000000; repeatable
        #[arg(long, value_name = "KEY=NUMBER", value_parser = quota)]
        quota: Vec<(String, u64)>,
    },
    /// One account
    Show {
        /// Its name
        name: String,
    },
    /// Change an account
    Set {
        /// Its name
        name: String,
        /// What it may: admins see everything, and manage accounts
        #[arg(long, value_parser = ["user", "admin"])]
        role: Option<String>,
        /// Let nobody in: no log-in, no token; what it owns stays
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Let it in again
        #[arg(long)]
        enable: bool,
        /// Read a new password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// Replaces the whole quota; repeatable
        #[arg(long, value_name = "KEY=NUMBER", value_parser = quota)]
        quota: Vec<(String, u64)>,
    },
    /// Change your own password: standard input holds the present one and the new one, a line each, or the new one alone when
    /// there is none yet
    Password,
    /// Remove an account
    Remove {
        /// Its name
        name: String,
        /// What becomes of what it owns: delete, or transfer:NAME
        #[arg(long, value_name = "delete|transfer:NAME")]
        objects: Option<String>,
    },
}

#[derive(clap::Subcommand)]
pub(super) enum Token {
    /// Tokens, newest first
    List {
        /// Another account's (for admins)
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Make a token; its text is printed once
    Add {
        /// What it is for
        name: String,
        /// For another account (for admins)
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// builds:read, builds:write, apps:read, apps:write, admin; repeatable; without any: all you may
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Only builds for these destinations, such as registry.example/team/*; repeatable
        #[arg(long = "image", value_name = "HOST/PATH[/*]")]
        images: Vec<String>,
        /// Such as 90d; without it: never
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
    /// Make a token worthless
    Revoke {
        /// The token's id, as the list tells it
        id: String,
    },
}

#[derive(clap::Subcommand)]
pub(super) enum Registry {
    /// Your registries (for admins: everybody's), newest first
    List {
        /// Only this account's (for admins)
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Keep credentials; the password is read from standard input
    Put {
        /// How you call it
        name: String,
        /// As in an image's name
        #[arg(long, value_name = "HOST[:PORT]")]
        server: String,
        /// Who you are there
        #[arg(long, value_name = "NAME")]
        username: String,
    },
    /// Forget credentials
    Remove {
        /// How you call it
        name: String,
        /// Another account's (for admins)
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Does the registry accept them?
    Check {
        /// How you call it
        name: String,
        /// Another account's (for admins)
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
}

#[derive(clap::Subcommand)]
pub(super) enum Audit {
    /// What was done, oldest first
    List {
        /// Only the newest
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Check that no entry was changed, moved, taken out or cut off the end
    Verify {
        /// A head that was noted before; it must still be in the audit
        #[arg(long, value_name = "SEQ:HASH")]
        since: Option<crate::audit::Head>,
    },
}

#[derive(clap::Subcommand)]
pub(super) enum Keys {
    /// Make a new key and seal everything that is kept with it
    Rotate,
}

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Accounts (for admins)
    #[command(subcommand)]
    User(User),
    /// Tokens, your own or (for admins) an account's
    #[command(subcommand)]
    Token(Token),
    /// Your registries' credentials
    #[command(subcommand)]
    Registry(Registry),
    /// Where you are told of the ends of builds
    #[command(subcommand)]
    Webhook(Webhook),
    /// Who did what (for admins)
    #[command(subcommand)]
    Audit(Audit),
    /// The keys of kept credentials (for admins)
    #[command(subcommand)]
    Keys(Keys),
    /// Apps: containers that are described once and run many times
    #[command(subcommand)]
    App(App),
    /// Runs: each life of a container, also when it is over
    #[command(subcommand)]
    Run(Run),
    /// Build a Dockerfile or a folder, publish the image, and show how
    Build(Box<Build>),
    /// Cancel a build
    Cancel {
        /// The build's id
        id: String,
    },
    /// Build the same inputs once more; only the push where the image is still there
    Retry(Retry),
    /// Containers that run and builds that are under way, newest first
    Ps(Ps),
    /// One container as the engine has it now, or one build
    Inspect {
        /// A container's name or id, or a build's id, as ps tells it
        #[arg(value_name = "CONTAINER|BUILD")]
        target: String,
    },
    /// What a container puts out, or what was done for a build
    Logs {
        /// An app, of which the newest container is meant; a container's name or id; or a build's id
        #[arg(value_name = "APP|CONTAINER|BUILD")]
        target: String,
        #[command(flatten)]
        logs: LogPart,
        /// Of a build, this step alone: its number in the log, or a part of its name
        #[arg(long, value_name = "STEP")]
        step: Option<String>,
    },
    /// Start a container again
    Start {
        /// Its name or id, as ps tells it
        container: String,
    },
    /// Ask a container to end, and end it when it does not
    Stop {
        /// Its name or id, as ps tells it
        container: String,
        /// How long it may take to end by itself, such as 30s
        #[arg(long, short, value_name = "TIME")]
        grace: Option<String>,
    },
    /// Stop a container and start it again
    Restart {
        /// Its name or id, as ps tells it
        container: String,
        /// How long it may take to end by itself, such as 30s
        #[arg(long, short, value_name = "TIME")]
        grace: Option<String>,
    },
    /// Send a signal to a container
    Kill {
        /// Its name or id, as ps tells it
        container: String,
        /// Such as SIGHUP; without it: SIGKILL
        #[arg(long, short, value_name = "NAME")]
        signal: Option<String>,
    },
    /// Remove a container, its run stays in the history; or a build with its file, log and image
    Rm {
        /// A container's name or id, or a build's id, as ps tells it
        #[arg(value_name = "CONTAINER|BUILD")]
        target: String,
        /// Also one that runs
        #[arg(long, short)]
        force: bool,
        /// Of a build also the registry's tags, where they still name its image
        #[arg(long)]
        remote: bool,
    },
    /// What a container uses, a line a second until it ends
    Stats {
        /// An app, of which the newest container is meant; or a container's name or id
        #[arg(value_name = "APP|CONTAINER")]
        target: String,
        /// One sample alone
        #[arg(long)]
        once: bool,
    },
    /// Volumes: what stays when a container goes
    #[command(subcommand)]
    Volume(Volume),
    /// Networks: in which containers find each other
    #[command(subcommand)]
    Network(Network),
    /// Images on the engine
    #[command(subcommand)]
    Image(Image),
    /// Run a command in a running container: `dockwright exec -it APP sh`
    Exec(Exec),
}

/// `KEY=NUMBER`; the service knows the keys.
fn quota(text: &str) -> Result<(String, u64), String> {
    let (key, number) = text.split_once('=').ok_or("must be KEY=NUMBER")?;
    Ok((key.to_owned(), number.parse().map_err(|_| format!("{number:?} is no whole number"))?))
}
