//! A container that runs, for tests that look into it from outside.

use serde_json::json;

use super::harbor::Harbor;
use super::service::docker;

/// Removed with its [`Harbor`].
pub struct Container {
    pub run: String,
    pub name: String,
    /// The engine's.
    pub id: String,
}

impl Container {
    /// One of whoever has this token, that runs this shell script.
    pub async fn of(harbor: &Harbor, token: &str, script: &str) -> Self {
        let fields = json!({"command": ["sh", "-c", script], "network": "none", "memory": "64m"});
        let run = harbor.run(token, fields).await;
        let run = harbor.run_until(token, &run, |run| run["state"] != "pending" && run["state"] != "starting").await;
        assert_eq!(run["state"], "running", "{run}");
        let text = |field: &str| run[field].as_str().expect("text").to_owned();
        Self { run: text("id"), name: text("container_name"), id: text("container") }
    }

    /// How many of its processes have this in their arguments.
    pub fn processes(&self, part: &str) -> usize {
        docker(&["top", &self.id, "-eo", "pid,args"]).lines().filter(|line| line.contains(part)).count()
    }
}
