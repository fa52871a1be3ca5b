//! The commands of builds as they are written: `dockwright build|cancel|retry`.

use std::path::PathBuf;

use crate::domain::quantity::Span;

/// How the output says what this builds and where it goes.
const RESULT: &str = "Output";
/// What belongs to this service, and not to `docker build`.
const SERVICE: &str = "Build service";

/// What stands below the help, and in the manual.
const EXIT: &str = "Exit code: 0 when the image is published (with --no-push: built), 1 when what was sent is at fault or the build was \
    cancelled, 2 for wrong usage, 3 when the service, an engine or a registry is. Ctrl-C cancels the build (130); once more leaves at once.";

// What a build is entrusted with. No documentation comment: it would stand in the help in place of the command's.
#[derive(Clone, clap::Args)]
pub(in crate::cli) struct Entrusted {
    /// A secret for RUN --mount=type=secret, never kept in the image; repeatable
    #[arg(long = "secret", value_name = "id=ID[,src=FILE|,env=NAME]")]
    pub secrets: Vec<String>,
    /// An ssh key for RUN --mount=type=ssh; `default` alone is your usual key file; repeatable
    #[arg(long = "ssh", value_name = "default|ID=FILE")]
    pub ssh: Vec<String>,
}

/// The arguments of `dockwright build`.
#[derive(clap::Args)]
#[command(after_help = EXIT)]
pub(in crate::cli) struct Build {
    /// A folder, the URL of a git repository, or - for a Dockerfile or an archive on standard input
    #[arg(default_value = ".", value_name = "FOLDER|URL|-")]
    pub context: PathBuf,
    /// The Dockerfile, from here or else inside the folder; - reads it from standard input
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where to publish: [HOST[:PORT]/]PATH[:TAG]; repeatable
    #[arg(long = "tag", short = 't', value_name = "IMAGE")]
    pub tags: Vec<String>,
    /// A build argument; without a value that of the environment; repeatable
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    pub build_args: Vec<String>,
    #[command(flatten)]
    pub entrusted: Entrusted,
    /// Build this stage
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// For this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Take no step from the cache
    #[arg(long)]
    pub no_cache: bool,
    /// Look for newer base images
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL", hide_possible_values = true, hide_default_value = true)]
    pub pull: bool,
    /// Publish the image; it is, if nothing is said
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "no_push", value_name = "BOOL", hide_possible_values = true)]
    pub push: Option<bool>,
    /// Build only
    #[arg(long, overrides_with = "push")]
    pub no_push: bool,
    /// A label of the image; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// An image whose layers may be used; repeatable
    #[arg(long = "cache-from", value_name = "IMAGE")]
    pub cache_from: Vec<String>,
    /// As docker buildx has it: type=inline alone
    #[arg(long = "cache-to", value_name = "type=inline", hide = true)]
    pub cache_to: Vec<String>,
    /// As docker buildx has it; there is no engine here to load an image into
    #[arg(long, hide = true)]
    pub load: bool,
    /// Network of RUN: default or none
    #[arg(long, value_name = "MODE")]
    pub network: Option<String>,
    /// Most memory, such as 512m
    #[arg(long, short, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Most CPUs, such as 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Longest time, such as 15m
    #[arg(long, value_name = "TIME", help_heading = SERVICE)]
    pub timeout: Option<String>,
    /// Among your own builds: -10 to 10, the higher the earlier
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = SERVICE)]
    pub priority: Option<String>,
    /// What the build belongs to; else the first image's repository
    #[arg(long, value_name = "NAME", help_heading = SERVICE)]
    pub project: Option<String>,
    /// Publish with credentials that the service keeps, instead of those of your own Docker configuration; repeatable
    #[arg(long = "registry", value_name = "NAME", help_heading = SERVICE)]
    pub registries: Vec<String>,
    /// Cancel older builds of the same image and project
    #[arg(long, help_heading = SERVICE)]
    pub supersede: bool,
    /// Send the whole folder, and not only what the service has not yet
    #[arg(long, help_heading = SERVICE)]
    pub full_upload: bool,
    /// Take the image of an identical build that is done
    #[arg(long, help_heading = SERVICE)]
    pub reuse: bool,
    /// Use no cache mount of an earlier build
    #[arg(long, help_heading = SERVICE)]
    pub cold: bool,
    /// Keep the cache's description in the image, for --cache-from
    #[arg(long, help_heading = SERVICE)]
    pub inline_cache: bool,
    /// How long a service that is away or busy is tried again; else 75s
    #[arg(long, value_name = "TIME", help_heading = SERVICE)]
    pub patience: Option<Span>,
    /// Print the image's id alone
    #[arg(long, short, conflicts_with = "json", help_heading = RESULT)]
    pub quiet: bool,
    /// How to show what is done
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = RESULT)]
    pub progress: Progress,
    /// Print the build's id and let it go on by itself
    #[arg(long, short, conflicts_with_all = ["iidfile", "metadata_file"], help_heading = RESULT)]
    pub detach: bool,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub iidfile: Option<PathBuf>,
    /// Write digest, name and the build's id to this file, as JSON
    #[arg(long, value_name = "FILE", help_heading = RESULT)]
    pub metadata_file: Option<PathBuf>,
}

impl Build {
    /// Whether the image leaves the service.
    pub(in crate::cli) fn is_published(&self) -> bool {
        !self.no_push && self.push.unwrap_or(true)
    }
}

/// How a build's progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Progress {
    /// Live at a terminal, else plain
    #[default]
    Auto,
    /// A line for everything
    Plain,
    /// Live steps
    Tty,
}

/// A new build of the same inputs.
#[derive(clap::Args)]
pub(in crate::cli) struct Retry {
    /// The build's id
    pub id: String,
    /// Also over tags that younger builds have pushed since: a way back
    #[arg(long)]
    pub force: bool,
    /// Publish with credentials that the service keeps, instead of those of your own Docker configuration; repeatable
    #[arg(long = "registry", value_name = "NAME")]
    pub registries: Vec<String>,
    #[command(flatten)]
    pub entrusted: Entrusted,
    /// Show it until it ends, and end as it ends
    #[arg(long, short)]
    pub follow: bool,
    /// How long a service that is away or busy is tried again; else 75s
    #[arg(long, value_name = "TIME")]
    pub patience: Option<Span>,
    /// How to show what is done
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub progress: Progress,
}
