//! The commands of apps and containers as they are written: `dockwright app|run|ps|logs|exec|…`.

use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub(in crate::cli) enum App {
    /// Apps, newest first
    List,
    /// One app
    Show { name: String },
    /// Make an app; nothing runs yet
    Create {
        /// 1 to 63 of a-z 0-9 -
        name: String,
        #[command(flatten)]
        spec: Box<Spec>,
    },
    /// Change some of an app; what runs of it stays as it is until it is started again
    Set {
        name: String,
        #[command(flatten)]
        spec: Box<Spec>,
    },
    /// Remove an app with its history and containers
    Rm {
        name: String,
        /// Stop what of it runs
        #[arg(long, short)]
        force: bool,
    },
    /// Start an app
    Run {
        name: String,
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
    /// Read secret variables from standard input, a line each: NAME=VALUE
    #[arg(long)]
    pub secrets_stdin: bool,
    /// Publish a port, on one of the host that is free or on this one; repeatable
    #[arg(long = "port", short, value_name = "[HOST:]PORT[/udp]")]
    pub ports: Vec<String>,
    /// Mount a volume of your own; repeatable
    #[arg(long = "volume", short, value_name = "NAME:/PATH[:ro]")]
    pub volumes: Vec<String>,
    /// A network of your own, default or none
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Such as 256m
    #[arg(long, short, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Such as 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Most processes
    #[arg(long, value_name = "N")]
    pub pids: Option<u64>,
    /// no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
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
    /// A JSON file with the fields of the interface, for what has no option here
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
    /// Come back when it runs, or has failed to
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
    },
    /// One run
    Show { id: String },
    /// Run a container once, without an app
    Once {
        #[command(flatten)]
        start: Start,
        #[command(flatten)]
        spec: Box<Spec>,
    },
    /// What was done for a run, and what it put out; also when its container is gone
    Logs {
        id: String,
        #[command(flatten)]
        logs: Logs,
    },
    /// Stop a run
    Stop { id: String },
    /// Remove a run with its container and logs
    Rm { id: String },
}

/// Which part of a log.
#[derive(clap::Args)]
pub(in crate::cli) struct Logs {
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
    /// Your volumes
    List,
    /// Make a volume
    Create { name: String },
    /// One volume
    Show { name: String },
    /// Remove a volume and all that is in it
    Rm { name: String },
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum Network {
    /// Your networks
    List,
    /// Make a network
    Create { name: String },
    /// One network
    Show { name: String },
    /// Remove a network
    Rm { name: String },
}

#[derive(clap::Subcommand)]
pub(in crate::cli) enum Image {
    /// Your images on the engine
    List,
    /// Fetch an image from its registry
    Pull {
        image: String,
        /// With these kept credentials
        #[arg(long, value_name = "NAME")]
        registry: Option<String>,
    },
    /// Send an image to its registry
    Push {
        image: String,
        /// With these kept credentials
        #[arg(long, value_name = "NAME")]
        registry: Option<String>,
    },
    /// Give an image another name
    Tag { image: String, to: String },
    /// Remove an image from the engine
    Rm { image: String },
}

/// A process in a running container. Its exit code is this command's.
#[derive(clap::Args)]
pub(in crate::cli) struct Exec {
    /// Hand standard input on
    #[arg(long, short)]
    pub interactive: bool,
    /// With a terminal
    #[arg(long, short)]
    pub tty: bool,
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Come back to a terminal that was left, or take it over
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
