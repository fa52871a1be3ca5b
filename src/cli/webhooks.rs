//! `dockwright webhook`: where you are told of the ends of builds, and what was told.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::commands::Remote;
use super::remote::{path, read_secret, with};
use super::show::{show, show_all, text};
use super::{complain, say};
use crate::client::Client;

const WEBHOOKS: &str = "/api/v1/webhooks";
const WEBHOOK: [&str; 7] = ["id", "url", "events", "project", "image", "enabled", "disabled_reason"];
const DELIVERY: [&str; 7] = ["id", "event", "build", "state", "created_at", "next_at", "redelivery_of"];

#[derive(clap::Subcommand)]
pub(super) enum Webhook {
    /// Your webhooks (for admins: everybody's), newest first
    Ls {
        /// Only this account's (for admins)
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Be told of the ends of builds; the secret that the bodies are signed with is printed once
    Create {
        /// https://… or http://…
        // Not `url`, which is where the service itself is.
        #[arg(value_name = "URL")]
        address: String,
        /// build.published, build.built, build.failed, build.cancelled, build.superseded; repeatable; without any: all
        #[arg(long = "event", value_name = "EVENT")]
        events: Vec<String>,
        /// Only of builds of this project
        #[arg(long)]
        project: Option<String>,
        /// Only of builds for this destination
        #[arg(long, value_name = "HOST/PATH[:TAG]")]
        image: Option<String>,
        /// Read the secret from standard input instead of having one made
        #[arg(long)]
        secret_stdin: bool,
    },
    /// Remove a webhook, with its history
    Rm {
        /// The webhook's id, as the list tells it
        id: String,
    },
    /// What was told to a webhook, and how each try went, newest first
    Deliveries {
        /// The webhook's id, as the list tells it
        id: String,
    },
    /// Tell again what was told before
    Redeliver {
        /// The webhook's id
        id: String,
        /// The delivery's id
        delivery: String,
    },
    /// Send a test event
    Test {
        /// The webhook's id, as the list tells it
        id: String,
    },
}

pub(super) async fn webhook(client: &Client, remote: &Remote, command: Webhook) -> anyhow::Result<ExitCode> {
    match command {
        Webhook::Ls { user } => show_all(remote, client.all(&with(WEBHOOKS, [("owner", user)])?).await?, &WEBHOOK),
        Webhook::Create { address, events, project, image, secret_stdin } => {
            let mut body = json!({"url": address, "project": project, "image": image});
            if !events.is_empty() {
                body["events"] = events.into();
            }
            if secret_stdin {
                body["secret"] = read_secret()?.into();
            }
            create(client, remote, &body).await?;
        }
        Webhook::Rm { id } => {
            client.call(Method::DELETE, &path("webhooks", &id)?, None).await?;
            complain("removed");
        }
        Webhook::Deliveries { id } => {
            let mut deliveries = client.all(&format!("{}/deliveries", path("webhooks", &id)?)).await?;
            if !remote.json {
                deliveries.iter_mut().for_each(add_last);
            }
            show_all(remote, deliveries, &["id", "event", "build", "state", "tries", "last", "next_at"]);
        }
        Webhook::Redeliver { id, delivery } => {
            // The same rule for this part of the path as for the other one.
            let delivery = path("", &delivery)?.split_off("/api/v1//".len());
            let path = format!("{}/deliveries/{delivery}/redeliver", path("webhooks", &id)?);
            show(remote, &client.call(Method::POST, &path, None).await?, &DELIVERY);
        }
        Webhook::Test { id } => {
            let path = format!("{}/test", path("webhooks", &id)?);
            show(remote, &client.call(Method::POST, &path, None).await?, &DELIVERY);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(client: &Client, remote: &Remote, body: &Value) -> anyhow::Result<()> {
    let made = client.call(Method::POST, WEBHOOKS, Some(body)).await?;
    if remote.json {
        show(remote, &made, &[]);
        return Ok(());
    }
    complain(&format!("made the webhook {}", text(&made["id"])));
    if made["secret"].is_string() {
        complain("its bodies are signed with this secret, and this is the only time that it is shown:");
        say(&format!("{}\n", text(&made["secret"])));
    }
    Ok(())
}

/// How often a delivery was tried, and what came of the last try, for a line of a table.
fn add_last(delivery: &mut Value) {
    let attempts = delivery["attempts"].as_array().cloned().unwrap_or_default();
    let last = attempts.last().map_or(Value::Null, |last| match &last["error"] {
        Value::Null => last["status"].clone(),
        error => error.clone(),
    });
    delivery["tries"] = attempts.len().into();
    delivery["last"] = last;
}
