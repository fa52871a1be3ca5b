//! The commands of the binary.

mod audit;
mod build;
mod build_commands;
mod builds;
mod commands;
mod container_commands;
mod containers;
mod context;
mod doctor;
mod images;
mod login;
mod places;
mod reach;
mod remote;
mod serve;
mod shell;
mod show;
mod spec;
mod terminal;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Settings;

/// A Dockerfile in, a published image out.
#[derive(Parser)]
#[command(name = "dockwright", version, about)]
struct Cli {
    #[command(flatten)]
    remote: commands::Remote,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service
    Serve(Options),
    /// Print the settings in force, as TOML, with secrets masked
    Config(Options),
    /// Check engine, store, registry, disk and settings, and say what to do about each
    Doctor {
        #[command(flatten)]
        options: Options,
        /// A registry to check
        #[arg(long, default_value = "127.0.0.1:5000", value_name = "HOST[:PORT]")]
        registry: String,
    },
    /// Keep a service's address and token for all commands
    Login(login::Login),
    /// Forget a service's token
    Logout(login::Logout),
    /// Print what makes a shell complete commands: source <(dockwright completions bash)
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: shell::Shell,
    },
    /// Print the manual's page, in the form that man reads
    Man {
        /// Write the pages of all commands to this folder
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    #[command(flatten)]
    Remote(commands::Command),
}

#[derive(clap::Args)]
struct Options {
    /// A TOML file with settings; its keys are the flags' names with underscores
    #[arg(long, env = "DOCKWRIGHT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Options {
    fn resolve(self) -> anyhow::Result<crate::config::Config> {
        self.settings.resolve(self.config.as_deref())
    }
}

/// Runs the command line. Exit codes: 0 success, 1 failure, 2 usage; those of builds tell more (see [`build_commands::Build`]).
#[must_use]
pub fn main() -> ExitCode {
    let Cli { remote, command } = Cli::parse();
    let result = match command {
        Command::Remote(command) => remote::run(&remote, command),
        Command::Login(wanted) => login::login(&remote, &wanted),
        Command::Logout(wanted) => login::logout(&remote, &wanted),
        Command::Completions { shell } => shell::completions(Cli::command(), shell),
        Command::Man { folder } => shell::man(Cli::command(), folder.as_deref()),
        Command::Serve(options) => options.resolve().and_then(serve::run),
        Command::Config(options) => options.resolve().and_then(|config| {
            say(&toml::to_string(&config)?);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Doctor { options, registry } => options.resolve().and_then(|config| doctor::run(config, &registry)),
    };
    result.unwrap_or_else(|error| {
        complain(&told(&error));
        ExitCode::FAILURE
    })
}

/// Line by line: an engine's words may be many.
fn told(error: &anyhow::Error) -> String {
    format!("error: {error:#}").lines().map(show::visible).collect::<Vec<_>>().join("\n")
}

/// To standard output; a reader that went away is no fault.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::{Cli, CommandFactory};

    #[test]
    fn every_command_and_every_argument_says_what_it_is() {
        let mut open = vec![Cli::command()];
        open[0].clone().debug_assert();
        while let Some(command) = open.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            open.extend(command.get_subcommands().cloned());
        }
    }
}
