//! The commands of apps and containers as they are written: `dockwright app|run|ps|logs|exec|…`.

use std::path::PathBuf;

/// Whose; for admins, who see everybody's.
#[derive(clap::Args)]
pub(in crate::cli) struct Owner {
    /// Another account's (for admins)
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Named {
    /// Its name
    pub name: String,
    #[command(flatten)]
    pub of: Owner,
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum App {
    /// Apps, newest first
    List(Owner),
    /// One app, with all that its containers are to be
    Show(Named),
    /// Make an app; nothing runs yet
    Create {
        /// 1 to 63 of a-z 0-9 -
        name: String,
        #[command(flatten)]
        spec: Box<Spec>,
    },
    /// Change some of an app; what runs of it stays as it is, and new runs follow the change
    Set {
        #[command(flatten)]
        app: Named,
        #[command(flatten)]
        spec: Box<Spec>,
    },
    /// Remove an app with its history and containers
    Rm {
        #[command(flatten)]
        app: Named,
        /// Stop what of it runs
        #[arg(long, short)]
        force: bool,
    },
    /// Start an app; each start is a run of its own, with a container of its own
    Run {
        #[command(flatten)]
        app: Named,
        #[command(flatten)]
        start: Start,
    },
}

/// What a container is to be.
#[derive(clap::Args)]
pub(in crate::cli) struct Spec {
    /// Image to run
    #[arg(long, value_name = "IMAGE", conflicts_with = "build")]
    pub image: Option<String>,
    /// Id of a build whose image is to run
    #[arg(long, value_name = "ID")]
    pub build: Option<String>,
    /// A variable; repeatable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Read secret variables from standard input, a line each: NAME=VALUE. Nobody is shown them again
    #[arg(long)]
    pub secrets_stdin: bool,
    /// Publish a port, on one of the host that is free or on this one; repeatable
    #[arg(long = "port", short, value_name = "[HOST:]PORT[/udp]")]
    pub ports: Vec<String>,
    /// Mount a volume of your own, which is made if there is none of that name; repeatable
    #[arg(long = "volume", short, value_name = "NAME:/PATH[:ro]")]
    pub volumes: Vec<String>,
    /// A network of your own, default or none
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Most memory, such as 256m
    #[arg(long, short, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Most CPUs, such as 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Most processes and threads
    #[arg(long, value_name = "N")]
    pub pids: Option<u64>,
    /// Whether it is started again when it ends: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Who its process is, instead of the image's own
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Where its process begins, instead of the image's own
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The image's files cannot be written to
    #[arg(long)]
    pub read_only: bool,
    /// Its process has a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Instead of the image's own; repeatable, for its arguments
    #[arg(long, value_name = "PART")]
    pub entrypoint: Vec<String>,
    /// A label; repeatable
    #[arg(long = "label", short, value_name = "NAME=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// A JSON file with the fields of the interface, for what has no option here; what an option says goes first
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Command and arguments, instead of the image's own
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// How a start is done.
#[derive(clap::Args)]
pub(in crate::cli) struct Start {
    /// Pull with these kept credentials
    #[arg(long, value_name = "NAME")]
    pub registry: Option<String>,
    /// Come back when it runs; with exit code 1 when it does not
    #[arg(long)]
    pub wait: bool,
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum Run {
    /// Runs, newest first
    List {
        /// Of this app alone
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        #[command(flatten)]
        of: Owner,
    },
    /// One run
    Show {
        /// The run's id
        id: String,
    },
    /// Run a container once, without an app
    Once {
        #[command(flatten)]
        start: Start,
        #[command(flatten)]
        spec: Box<Spec>,
    },
    /// What was done for a run, and what it put out; also when its container is gone
    Logs {
        /// The run's id
        id: String,
        #[command(flatten)]
        logs: LogPart,
    },
    /// Stop a run
    Stop {
        /// The run's id
        id: String,
    },
    /// Remove a run with its container and logs; one that runs is stopped first
    Rm {
        /// The run's id
        id: String,
    },
}

/// Which containers and builds.
#[derive(clap::Args)]
pub(in crate::cli) struct Ps {
    /// Also containers that do not run; with --builds also builds that have ended, the newest 100
    #[arg(long, short)]
    pub all: bool,
    /// Builds alone
    #[arg(long, conflicts_with = "app")]
    pub builds: bool,
    /// Builds in this state alone, the newest 100
    #[arg(long, value_name = "STATE", conflicts_with = "app")]
    pub state: Option<String>,
    /// Of this app alone
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    #[command(flatten)]
    pub of: Owner,
}

/// Which part of a log.
#[derive(clap::Args)]
pub(in crate::cli) struct LogPart {
    /// Go on until it ends
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "N")]
    pub tail: Option<u64>,
    /// Begin each line with its time
    #[arg(long, short)]
    pub timestamps: bool,
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum Volume {
    /// Volumes, newest first
    List {
        #[command(flatten)]
        of: Owner,
        /// Also how large they are, which takes a while
        #[arg(long)]
        usage: bool,
    },
    /// Make a volume; one that a container names is made by itself
    Create {
        /// 1 to 63 of a-z 0-9 -
        name: String,
    },
    /// One volume
    Show(Named),
    /// Remove a volume and all that is in it
    Rm(Named),
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum Network {
    /// Networks, newest first
    List(Owner),
    /// Make a network
    Create {
        /// 1 to 63 of a-z 0-9 -
        name: String,
    },
    /// One network
    Show(Named),
    /// Remove a network that no container is in
    Rm(Named),
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum Image {
    /// Images on the engine that you pulled or named, newest first
    List(Owner),
    /// Fetch an image from its registry
    Pull(Kept),
    /// Send an image to the registry that its name begins with
    Push(Kept),
    /// Give an image another name
    Tag {
        /// Its name now
        image: String,
        /// Its new name
        to: String,
    },
    /// Remove an image; it goes from the engine when nobody else has it
    Rm(Named),
}

/// An image, and what a registry is asked with.
#[derive(clap::Args)]
pub(in crate::cli) struct Kept {
    /// [HOST[:PORT]/]PATH[:TAG]
    pub image: String,
    /// With these kept credentials; else with those for the image's host, if there are any
    #[arg(long, value_name = "NAME")]
    pub registry: Option<String>,
}

/// Ends with the process's own exit code. In a script: `echo hi | dockwright exec -i APP cat`.
#[derive(clap::Args)]
pub(in crate::cli) struct Exec {
    /// Hand standard input on
    #[arg(long, short)]
    pub interactive: bool,
    /// With a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Who the process is, instead of the container's own user
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Come back, within a minute, to a process whose connection broke off
    #[arg(long, value_name = "ID", conflicts_with_all = ["user", "command"])]
    pub session: Option<String>,
    /// An app, of which the newest container is meant; or a container's name or id
    #[arg(value_name = "APP|CONTAINER")]
    pub target: String,
    /// Command and arguments; without any, the first shell that there is
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
