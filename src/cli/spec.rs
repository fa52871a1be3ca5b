//! The fields of a container, from the options of a command. What they may be, the service knows.

use std::io::Read as _;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::container_commands::Spec;

/// The fields that are said; those of `--file` beneath those of the options.
pub(super) fn fields(spec: &Spec) -> anyhow::Result<Map<String, Value>> {
    let mut fields = match &spec.file {
        None => Map::new(),
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} holds no JSON object", file.display()))?
        }
    };
    let texts = [
        ("image", &spec.image),
        ("build", &spec.build),
        ("network", &spec.network),
        ("memory", &spec.memory),
        ("cpus", &spec.cpus),
        ("restart", &spec.restart),
        ("user", &spec.user),
        ("workdir", &spec.workdir),
    ];
    fields.extend(texts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?)))));
    fields.extend(spec.pids.map(|pids| ("pids".to_owned(), pids.into())));
    for (name, said) in [("read_only", spec.read_only), ("tty", spec.tty)] {
        fields.extend(said.then(|| (name.to_owned(), true.into())));
    }
    let lists = [
        ("command", json!(spec.command)),
        ("entrypoint", json!(spec.entrypoint)),
        ("ports", spec.ports.iter().map(|text| port(text)).collect::<anyhow::Result<_>>()?),
        ("volumes", spec.volumes.iter().map(|text| volume(text)).collect::<anyhow::Result<_>>()?),
    ];
    let said = lists.into_iter().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty()));
    fields.extend(said.map(|(name, list)| (name.to_owned(), list)));
    add(&mut fields, "labels", spec.labels.iter().map(|(name, value)| (name.clone(), json!(value))))?;
    add(&mut fields, "env", spec.env.iter().map(|(name, value)| (name.clone(), json!(value))))?;
    if spec.secrets_stdin {
        add(&mut fields, "env", secrets()?)?;
    }
    Ok(fields)
}

fn add(fields: &mut Map<String, Value>, name: &str, pairs: impl IntoIterator<Item = (String, Value)>) -> anyhow::Result<()> {
    let mut pairs = pairs.into_iter().peekable();
    if pairs.peek().is_some() {
        let field = fields.entry(name).or_insert_with(|| json!({}));
        field.as_object_mut().with_context(|| format!("{name} of the file is no object"))?.extend(pairs);
    }
    Ok(())
}

/// A secret never is an argument, which every process of the machine could read.
fn secrets() -> anyhow::Result<Vec<(String, Value)>> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("cannot read the variables from standard input")?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| match line.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), json!({"secret": value}))),
            // Not the line itself, which may be a secret.
            None => bail!("line {} of standard input is not NAME=VALUE", at + 1),
        })
        .collect()
}

/// `[HOST:]PORT[/udp]`
fn port(text: &str) -> anyhow::Result<Value> {
    let wrong = || format!("{text:?} is no port: it is [HOST:]PORT, and /udp after it where it is one");
    let (ports, protocol) = text.split_once('/').map_or((text, None), |(ports, protocol)| (ports, Some(protocol)));
    let (host, container) = ports.split_once(':').map_or((None, ports), |(host, container)| (Some(host), container));
    let mut port = json!({"container": container.parse::<u16>().with_context(wrong)?});
    if let Some(host) = host {
        port["host"] = host.parse::<u16>().with_context(wrong)?.into();
    }
    if let Some(protocol) = protocol {
        port["protocol"] = protocol.into();
    }
    Ok(port)
}

/// `NAME:/PATH[:ro]`
fn volume(text: &str) -> anyhow::Result<Value> {
    let (name, path) =
        text.split_once(':').with_context(|| format!("{text:?} is no volume: it is NAME:/PATH, and :ro after it"))?;
    let (path, read_only) = path.strip_suffix(":ro").map_or((path, false), |path| (path, true));
    Ok(json!({"volume": name, "path": path, "read_only": read_only}))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        spec: Spec,
    }

    fn of(line: &str) -> anyhow::Result<Value> {
        let line = Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace()))?;
        fields(&line.spec).map(Value::Object)
    }

    #[test]
    fn only_what_is_said_is_sent() {
        assert_eq!(of("").expect("nothing"), json!({}));
        let line = "--image busybox -e A=1 -e B= -p 80 -p 20080:8080 -p 53/udp -v data:/data:ro -v tmp:/tmp -m 64m --cpus 0.5 --pids 9 \
                    --restart on-failure:3 -u 7:7 -w /data --read-only -t --network none --entrypoint sh -l a=b -- -c echo";
        let wanted = json!({"image": "busybox", "env": {"A": "1", "B": ""}, "memory": "64m", "cpus": "0.5", "pids": 9, "user": "7:7",
            "ports": [{"container": 80}, {"container": 8080, "host": 20080}, {"container": 53, "protocol": "udp"}],
            "volumes": [{"volume": "data", "path": "/data", "read_only": true}, {"volume": "tmp", "path": "/tmp", "read_only": false}],
            "restart": "on-failure:3", "workdir": "/data", "read_only": true, "tty": true, "network": "none", "entrypoint": ["sh"],
            "labels": {"a": "b"}, "command": ["-c", "echo"]});
        assert_eq!(of(line).expect("fields"), wanted);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (line, words) in
            [("-p http", "is no port"), ("-v data", "is no volume"), ("-e A", "NAME=VALUE"), ("--image a --build b", "cannot")]
        {
            let told = of(line).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(told.contains(words), "{line}: {told}");
        }
    }
}
