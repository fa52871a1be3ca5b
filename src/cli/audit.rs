//! `dockwright audit`: who did what, and whether that is still all of it.

use std::process::ExitCode;

use anyhow::Context;
use reqwest::Method;
use serde_json::json;

use super::commands::Remote;
use super::show::show_all;
use super::{complain, say};
use crate::audit::{self, Broken, Entry, Head};
use crate::client::Client;

const PATH: &str = "/api/v1/audit";

pub(super) async fn list(client: &Client, remote: &Remote, last: Option<usize>) -> anyhow::Result<ExitCode> {
    let mut entries = Vec::new();
    let mut cursor = Some(String::new());
    while let Some(from) = cursor.filter(|_| last.is_none_or(|last| entries.len() < last)) {
        let (page, next) = client.page(PATH, &from).await?;
        entries.extend(page);
        cursor = next;
    }
    entries.truncate(last.unwrap_or(usize::MAX));
    entries.reverse();
    show_all(remote, entries, &["seq", "at", "actor", "address", "action", "object", "status"]);
    Ok(ExitCode::SUCCESS)
}

/// A head that the chain must hold.
struct Witness {
    head: Head,
    missing: &'static str,
    differs: &'static str,
    found: bool,
}

/// The heads that bear witness: the one that the service keeps, and one that the operator has noted.
async fn witnesses(client: &Client, since: Option<Head>) -> anyhow::Result<Result<Vec<Witness>, Broken>> {
    let kept = client.call(Method::GET, "/api/v1/audit/head", None).await?;
    let kept = match kept["state"].as_str() {
        Some("kept") => Some(serde_json::from_value(kept).context("the kept head does not parse")?),
        Some("none") if client.page(PATH, "").await?.0.is_empty() => None,
        Some("none") => return Ok(Err(Broken { seq: 0, why: "the kept head was taken away" })),
        _ => return Ok(Err(Broken { seq: 0, why: "the kept head was forged, or sealed with a key that is gone" })),
    };
    let kept = kept.map(|head| Witness {
        head,
        missing: "is missing, and the service has kept it as the last one: the end was cut off",
        differs: "is not the one that the service has kept",
        found: false,
    });
    let noted = since.map(|head| Witness {
        head,
        missing: "is missing, and was noted: the end was cut off",
        differs: "is not the one that was noted",
        found: false,
    });
    Ok(Ok(kept.into_iter().chain(noted).collect()))
}

/// Checks the chain from its newest entry back, page by page, so that its length does not matter.
pub(super) async fn verify(client: &Client, remote: &Remote, since: Option<Head>) -> anyhow::Result<ExitCode> {
    let mut newest: Option<Head> = None;
    // The heads first: entries that come meanwhile only make the chain longer.
    let broken = match witnesses(client, since).await? {
        Ok(mut witnesses) => walk(client, &mut witnesses, &mut newest).await?,
        Err(broken) => Some(broken),
    };
    Ok(tell(remote, newest.as_ref(), broken.as_ref()))
}

async fn walk(client: &Client, witnesses: &mut [Witness], newest: &mut Option<Head>) -> anyhow::Result<Option<Broken>> {
    let mut later: Option<Entry> = None;
    let mut cursor = Some(String::new());
    while let Some(from) = cursor {
        let (page, next) = client.page(PATH, &from).await?;
        for entry in page {
            let entry: Entry = serde_json::from_value(entry).context("an entry does not parse")?;
            if let Some(broken) = later.as_ref().and_then(|later| audit::verify(Some(&entry), later).err()) {
                return Ok(Some(broken));
            }
            for witness in witnesses.iter_mut().filter(|witness| witness.head.seq == entry.seq) {
                if witness.head.hash != entry.hash {
                    return Ok(Some(Broken { seq: entry.seq, why: witness.differs }));
                }
                witness.found = true;
            }
            newest.get_or_insert_with(|| Head { seq: entry.seq, hash: entry.hash.clone() });
            later = Some(entry);
        }
        cursor = next;
    }
    let first = later.as_ref().and_then(|first| audit::verify(None, first).err());
    let missing = witnesses.iter().find(|witness| !witness.found);
    Ok(first.or_else(|| missing.map(|witness| Broken { seq: witness.head.seq, why: witness.missing })))
}

/// The head can be noted elsewhere, where nobody who has this machine can change it.
fn tell(remote: &Remote, newest: Option<&Head>, broken: Option<&Broken>) -> ExitCode {
    let head = newest.map(Head::to_string);
    if remote.json {
        let (entries, hash) = newest.map_or((0, None), |newest| (newest.seq, Some(&newest.hash)));
        let told = broken.map(|broken| json!({"seq": broken.seq, "why": broken.why}));
        let answer = json!({"ok": broken.is_none(), "entries": entries, "hash": hash, "head": head, "broken": told});
        say(&format!("{answer}\n"));
    } else {
        match (broken, newest, head) {
            (Some(broken), ..) => complain(&format!("the audit is broken: {broken}")),
            (None, Some(newest), Some(head)) => say(&format!("{} entries, unbroken; the head to note is\n{head}\n", newest.seq)),
            _ => say("the audit is empty\n"),
        }
    }
    if broken.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
