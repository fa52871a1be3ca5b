//! `GET /containers/…/stats`: what a container uses, in Docker's own reckoning.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Docker;
use super::calls::part;
use super::stream::{Messages, decode};
use super::summaries::happened;
use crate::engine::Result;
use crate::engine::containers::{Stats, Told};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sample {
    read: String,
    preread: String,
    cpu_stats: Cpu,
    precpu_stats: Cpu,
    memory_stats: Memory,
    pids_stats: Pids,
    networks: Option<BTreeMap<String, Traffic>>,
    blkio_stats: Blocks,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cpu {
    cpu_usage: CpuUsage,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CpuUsage {
    /// Nanoseconds since the container began.
    total_usage: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Memory {
    usage: u64,
    limit: u64,
    stats: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pids {
    current: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Traffic {
    rx_bytes: u64,
    tx_bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Blocks {
    io_service_bytes_recursive: Option<Vec<Block>>,
}

#[derive(Deserialize)]
struct Block {
    op: String,
    value: u64,
}

impl Docker {
    pub(super) async fn watch_stats(&self, id: &str) -> Result<Told<Stats>> {
        let answer = self.open(&format!("/containers/{}/stats?stream=1", part(id))).await?;
        let mut messages = Messages::new(answer);
        Ok(Box::pin(async_stream::try_stream! {
            while let Some(line) = messages.line().await? {
                let sample: Sample = decode(&line)?;
                // The engine goes on with empty samples when the container has ended.
                if happened(&sample.read).is_none() {
                    break;
                }
                if let Some(stats) = stats(&sample) {
                    yield stats;
                }
            }
        }))
    }
}

/// `None` for the first sample, which has none before it to tell the CPU's use by.
fn stats(sample: &Sample) -> Option<Stats> {
    let at = happened(&sample.read)?;
    let millis = happened(&sample.preread).map(|before| at.since(before).as_millis()).filter(|millis| *millis > 0)?;
    let spent = sample.cpu_stats.cpu_usage.total_usage.saturating_sub(sample.precpu_stats.cpu_usage.total_usage);
    let traffic = |of: fn(&Traffic) -> u64| sample.networks.iter().flat_map(BTreeMap::values).map(of).sum();
    let blocks = |op: &str| {
        let all = sample.blkio_stats.io_service_bytes_recursive.iter().flatten();
        all.filter(|block| block.op.eq_ignore_ascii_case(op)).map(|block| block.value).sum()
    };
    Some(Stats {
        at,
        // Nanoseconds in a millisecond are millionths of a CPU.
        milli_cpus: u64::try_from(u128::from(spent) / millis / 1000).unwrap_or(u64::MAX),
        memory_bytes: used(&sample.memory_stats),
        memory_limit_bytes: sample.memory_stats.limit,
        pids: sample.pids_stats.current,
        received_bytes: traffic(|one| one.rx_bytes),
        sent_bytes: traffic(|one| one.tx_bytes),
        read_bytes: blocks("read"),
        written_bytes: blocks("write"),
    })
}

/// Without the cache of files that nobody has used for a while, as `docker stats` shows it: `total_inactive_file` of control groups v1,
/// `inactive_file` of v2.
fn used(memory: &Memory) -> u64 {
    let stat = |name: &str| memory.stats.as_ref().and_then(|stats| stats.get(name)).and_then(serde_json::Value::as_u64);
    let cache = stat("total_inactive_file").or_else(|| stat("inactive_file")).filter(|cache| *cache < memory.usage);
    memory.usage - cache.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: &serde_json::Value) -> Option<Stats> {
        stats(&decode(json.to_string().as_bytes()).expect("a sample"))
    }

    #[test]
    fn a_sample_is_reckoned_as_docker_does() {
        let mut sample = json!({
            "read": "2026-11-21T11:00:02.5Z", "preread": "2026-11-21T11:00:01.5Z",
            "cpu_stats": {"cpu_usage": {"total_usage": 2_250_000_000_u64}},
            "precpu_stats": {"cpu_usage": {"total_usage": 1_000_000_000_u64}},
            "memory_stats": {"usage": 1000, "limit": 5000, "stats": {"total_inactive_file": 300, "inactive_file": 7}},
            "pids_stats": {"current": 3},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 10}, "eth1": {"rx_bytes": 2, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "Read", "value": 5}, {"op": "write", "value": 6}, {"op": "Read", "value": 7}, {"op": "Total", "value": 99}]},
        });
        let stats = read(&sample).expect("told");
        assert_eq!((stats.milli_cpus, stats.memory_bytes, stats.memory_limit_bytes, stats.pids), (1250, 700, 5000, 3));
        let sums = (stats.received_bytes, stats.sent_bytes, stats.read_bytes, stats.written_bytes);
        assert_eq!(sums, (3, 30, 12, 6));
        sample["memory_stats"]["stats"] = json!({"inactive_file": 100});
        assert_eq!(read(&sample).expect("told").memory_bytes, 900, "control groups v2");
        sample["memory_stats"] = json!({});
        sample["networks"] = json!(null);
        sample["blkio_stats"]["io_service_bytes_recursive"] = json!(null);
        assert_eq!(read(&sample).expect("told").received_bytes, 0);
        sample["preread"] = json!("0001-01-01T00:00:00Z");
        assert_eq!(read(&sample), None, "there is none before it");
    }
}
