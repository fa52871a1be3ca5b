use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use secrecy::ExposeSecret;

use super::say;
use crate::auth::FirstAdmin;
use crate::config::Config;
use crate::wiring::Service;
use crate::{http, shutdown, telemetry};

/// `dockwright serve`: until SIGTERM or SIGINT.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    telemetry::install(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let (role, address) = (config.role, config.listen);
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let service = Service::open(config).await?;
    tell_admin(&service.admin);
    let listener = if role.serves() {
        let listener = http::listen(address).with_context(|| format!("cannot listen on {address}"))?;
        tracing::info!("serving on {scheme}://{}", listener.local_addr()?);
        Some(listener)
    } else {
        None
    };
    service.run(listener, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The token is shown once, and only to a person: a log never gets it.
fn tell_admin(admin: &FirstAdmin) {
    if let FirstAdmin::Made { file, token } = admin {
        tracing::info!("made the admin's token: it is in {}", file.display());
        if std::io::stdout().is_terminal() {
            say(&format!("The admin's token, shown only now: {}\n", token.expose_secret()));
        }
    }
}
