//! The service's own log, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Installs the log for this process.
///
/// # Errors
/// When the filter cannot be read or a log is installed already.
pub fn install(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A line that nobody reads any more is lost. Told on standard error, that would fail as well, and end the task that wrote it.
    let log = log.log_internal_errors(false);
    // Colours are for people: a file or a journal gets none.
    let log = log.with_ansi(std::io::stderr().is_terminal());
    let installed = match config.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    installed.map_err(|e| anyhow::anyhow!(e))
}
