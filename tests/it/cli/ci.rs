//! The texts for pipelines, as they stand in docs/ci.md and in the action, run against the real service.

use std::path::Path;
use std::process::Command;

use super::builds::{ended, folder, text};
use super::person::{Ended, dockwright};
use crate::support::service::{self, Backend, Running, tag_digest};
use crate::support::{registry, unique};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("is there")
}

/// The blocks of one language below a headline.
fn blocks(page: &str, headline: &str, language: &str) -> Vec<String> {
    let section = page.split("\n## ").find(|section| section.starts_with(headline)).expect("a section");
    let fenced = section.split("```").skip(1).step_by(2);
    fenced.filter_map(|block| block.strip_prefix(&format!("{language}\n"))).map(str::to_owned).collect()
}

/// The text of the last YAML block scalar (`run: |`, `- |`), without its indentation.
fn scalar(yaml: &str) -> String {
    let lines: Vec<&str> = yaml.lines().collect();
    let head = lines.iter().rposition(|line| line.ends_with('|')).expect("a block of text");
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[head + 1]);
    let inside = lines[head + 1..].iter().take_while(|line| line.is_empty() || indent(line) >= depth);
    inside.map(|line| format!("{}\n", line.get(depth..).unwrap_or_default())).collect()
}

/// Runs a script in a folder as a job does: with the client on the path, and where and who in the environment.
fn job(service: &Running, at: &Path, shell: &str, script: &str, more: &[(&str, &str)]) -> Ended {
    let client = Path::new(env!("CARGO_BIN_EXE_dockwright")).parent().expect("a folder");
    let path = format!("{}:{}", client.display(), std::env::var("PATH").expect("a path"));
    let mut command = Command::new(shell);
    for (name, value) in dockwright(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["-e", "-c", script]).current_dir(at).env("PATH", path);
    command.env("DOCKWRIGHT_URL", service.url("")).env("DOCKWRIGHT_TOKEN", &service.token).envs(more.iter().copied());
    ended(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pipelines_text_publishes() {
    let service = service::start(Backend::Sqlite).await;
    let page = read("docs/ci.md");
    let github = blocks(&page, "GitHub Actions", "yaml").pop().expect("a block");
    let gitlab = blocks(&page, "GitLab CI", "yaml").pop().expect("a block");
    let woodpecker = blocks(&page, "Woodpecker", "yaml").pop().expect("a block");
    let jenkins = blocks(&page, "Jenkins", "groovy").pop().expect("a block");
    let jenkins = jenkins.split("'''").nth(1).expect("its shell").to_owned();
    let curl = blocks(&page, "curl", "sh").pop().expect("a block");
    let scripts = [
        ("bash", scalar(&github), "GITHUB_SHA"),
        ("sh", scalar(&gitlab), "CI_COMMIT_SHORT_SHA"),
        ("sh", scalar(&woodpecker), "CI_COMMIT_SHA"),
        ("sh", jenkins, "BUILD_NUMBER"),
        ("sh", curl, "TAG"),
    ];
    let at = folder(&[("Dockerfile", "FROM busybox\nCOPY Dockerfile /\n")]);
    let output = at.path().join("output");
    for (shell, script, tag) in scripts {
        let image = format!("{}/{}", registry(), unique("ci"));
        let more = [("IMAGE", image.as_str()), (tag, "the-tag"), ("CI_COMMIT_REF_SLUG", "main"), ("CI_REPO", "team/app")];
        let more = [&more[..], &[("GITHUB_OUTPUT", text(&output))]].concat();
        let done = job(&service, at.path(), shell, &script, &more).well();
        let digest = tag_digest(&format!("{image}:the-tag"), None).await.unwrap_or_else(|| panic!("{tag}: {}", done.err));
        assert!(done.out.contains(&format!("{image}:the-tag@{digest}")), "{tag}: {}{}", done.out, done.err);
        assert!(!done.err.contains(&service.token) && !done.out.contains(&service.token));
        if tag == "GITHUB_SHA" {
            assert_eq!(std::fs::read_to_string(&output).expect("is there"), format!("digest={digest}\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_the_client_fails_with_the_logs_tail() {
    let service = service::start(Backend::Sqlite).await;
    let curl = blocks(&read("docs/ci.md"), "curl", "sh").pop().expect("a block");
    let image = format!("{}/{}", registry(), unique("ci"));
    let more = [("IMAGE", image.as_str()), ("TAG", "1")];
    let at = folder(&[("Dockerfile", "FROM busybox\nRUN echo the-reason; exit 5\n")]);
    let failed = job(&service, at.path(), "sh", &curl, &more);
    assert!(failed.code == 1 && failed.err.contains("the-reason") && failed.out.is_empty(), "{} {}", failed.code, failed.err);
    let at = folder(&[("Dockerfile", "RUNN\n")]);
    let refused = job(&service, at.path(), "sh", &curl, &more);
    assert!(refused.code != 0 && refused.err.contains("RUNN"), "{} {}", refused.code, refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_action_builds_and_tells_the_digest() {
    let service = service::start(Backend::Sqlite).await;
    let action = read(".github/actions/build/action.yml");
    assert_eq!(action.matches("${{ inputs.").count(), 8, "every input comes as a variable");
    let script = scalar(&action);
    assert!(!script.contains("${{"), "no input becomes a part of the script");
    let at = folder(&[("sub/Dockerfile", "FROM busybox\nARG A\nARG B\nRUN test \"$A$B\" = 'a b$(touch x)'\n")]);
    let image = format!("{}/{}", registry(), unique("action"));
    let (output, tags) = (at.path().join("output"), format!("{image}:1\n{image}:2\n"));
    let more = [
        ("INPUT_CONTEXT", "sub"),
        ("INPUT_FILE", ""),
        ("INPUT_TAGS", tags.as_str()),
        ("INPUT_BUILD_ARGS", "A=a \nB=b$(touch x)\n"),
        ("INPUT_REGISTRY", ""),
        ("INPUT_CLIENT", "dockwright"),
        ("GITHUB_OUTPUT", text(&output)),
    ];
    job(&service, at.path(), "bash", &script, &more).well();
    let digest = tag_digest(&format!("{image}:2"), None).await.expect("published");
    let told = std::fs::read_to_string(&output).expect("is there");
    assert!(told.starts_with(&format!("digest={digest}\nid=01")), "{told}");
    assert!(!at.path().join("x").exists());
}
