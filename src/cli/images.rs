//! The commands of images.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::commands::Remote;
use super::complain;
use super::container_commands::{Image, Kept};
use super::places::remove;
use super::remote::with;
use super::show::{show, show_all, text};
use crate::client::Client;
use crate::domain::RunImage;

const IMAGE: [&str; 8] =
    ["owner", "reference", "image_id", "size_bytes", "private", "used_by.containers", "used_by.build", "pulled_at"];
const IMAGES: &str = "/api/v1/images";

pub(super) async fn image(client: &Client, remote: &Remote, command: Image) -> anyhow::Result<ExitCode> {
    match command {
        Image::List(of) => {
            let mut images = client.all(&with(IMAGES, [("owner", of.owner)])?).await?;
            if !remote.json {
                for image in &mut images {
                    image["image_id"] = short(&image["image_id"]);
                }
            }
            show_all(remote, images, &IMAGE);
        }
        Image::Pull(image) => pull(client, remote, &image).await?,
        Image::Push(image) => {
            let pushed = client.wait(Method::POST, &format!("{IMAGES}/push"), Some(&asked(&image))).await?;
            show(remote, &pushed, &["reference", "digest"]);
        }
        Image::Tag { image, to } => {
            let body = json!({"image": image, "tag": to});
            show(remote, &client.call(Method::POST, &format!("{IMAGES}/tag"), Some(&body)).await?, &IMAGE);
        }
        Image::Rm(image) => remove(client, &with(&path(&image.name)?, [("owner", image.of.owner)])?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The digest's first digits, by which engines know an image too.
fn short(id: &Value) -> Value {
    text(id).trim_start_matches("sha256:").chars().take(12).collect::<String>().into()
}

/// No field is sent that was not said.
fn asked(image: &Kept) -> Value {
    let mut body = json!({"image": image.image});
    if let Some(registry) = &image.registry {
        body["registry"] = registry.as_str().into();
    }
    body
}

/// Pulls, and tells people how far it is.
async fn pull(client: &Client, remote: &Remote, image: &Kept) -> anyhow::Result<()> {
    let mut told: HashMap<String, String> = HashMap::new();
    let mut events = client.events(Method::POST, &format!("{IMAGES}/pull"), Some(&asked(image))).await?;
    while let Some((name, data)) = events.next().await? {
        match name.as_str() {
            "progress" if !remote.json => {
                let (layer, status) = (text(&data["layer"]), text(&data["status"]));
                if told.insert(layer.clone(), status.clone()).as_ref() != Some(&status) {
                    complain(&if data["layer"].is_null() { status } else { format!("{layer}: {status}") });
                }
            }
            "done" => {
                show(remote, &data, &IMAGE);
                return Ok(());
            }
            "error" => bail!("{} ({})", data["detail"].as_str().unwrap_or_default(), text(&data["code"])),
            _ => {}
        }
    }
    bail!("the service has ended the connection; the image may be here or not")
}

/// The path of an image. Its slashes are of its name, and so no parts of the path.
fn path(image: &str) -> anyhow::Result<String> {
    image.parse::<RunImage>().map_err(|why| anyhow!("{image:?} {why}"))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@".contains(&byte);
    let part: String =
        image.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect();
    Ok(format!("{IMAGES}/{part}"))
}
