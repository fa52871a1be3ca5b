//! Which line of the Dockerfile an error is about, where the engine does not say it.

/// How engines quote a failed `RUN` step: BuildKit in brackets, the classic builder in quotes.
const QUOTES: [(&str, &str); 2] =
    [("executor failed running [", "]: exit code"), ("The command '", "' returned a non-zero code")];

/// The line of the only instruction that an error with this code and message can be about; `None` when there is none, or more
/// than one.
pub fn line_of(dockerfile: &str, code: &str, message: &str) -> Option<u32> {
    match code {
        "copy_source_missing" => line_of_copy(dockerfile, message),
        "base_image_unavailable" | "base_image_not_found" => line_of_base(dockerfile, message),
        _ => line_of_step(dockerfile, message),
    }
}

/// The step is quoted.
fn line_of_step(dockerfile: &str, message: &str) -> Option<u32> {
    let quoted = QUOTES.iter().find_map(|(before, after)| {
        let rest = message.split_once(before)?.1;
        Some(rest.rsplit_once(after)?.0)
    })?;
    let command = words(quoted.strip_prefix("/bin/sh -c ").unwrap_or(quoted));
    only(dockerfile, |text| !command.is_empty() && words(text).contains(&command))
}

/// The missing file is named: BuildKit in quotes and from the root, the classic builder behind `stat`.
fn line_of_copy(dockerfile: &str, message: &str) -> Option<u32> {
    let buildkit = || message.split_once(": \"")?.1.split_once('"').map(|(name, _)| name);
    let classic = || message.split_once(": stat ")?.1.split_once(": ").map(|(name, _)| name);
    let missing = buildkit().or_else(classic).map(relative).filter(|name| !name.is_empty())?;
    let takes = |text: &str| text.split([' ', '\t', '"', ',', '[', ']']).any(|word| relative(word) == missing);
    only(dockerfile, |text| (begins(text, "COPY") || begins(text, "ADD")) && takes(text))
}

fn relative(path: &str) -> &str {
    path.trim_start_matches("./").trim_matches('/')
}

/// The image's name stands in the address that was asked, or by itself.
fn line_of_base(dockerfile: &str, message: &str) -> Option<u32> {
    only(dockerfile, |text| {
        let image = text.split_whitespace().skip(1).find(|word| !word.starts_with("--")).unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        let name = last.split([':', '@']).next().unwrap_or_default();
        let told = |word: &str| word == name;
        begins(text, "FROM") && !name.is_empty() && message.split([' ', '/', ':', '"', ',', '@']).any(told)
    })
}

fn begins(text: &str, keyword: &str) -> bool {
    text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
}

fn only(dockerfile: &str, fits: impl Fn(&str) -> bool) -> Option<u32> {
    let mut found = instructions(dockerfile).filter(|(_, text)| fits(text));
    let (line, _) = found.next()?;
    found.next().is_none().then_some(line)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Instructions with the number of their first line; continued lines joined, comments between them left out.
fn instructions(dockerfile: &str) -> impl Iterator<Item = (u32, String)> {
    let mut lines = (1u32..).zip(dockerfile.lines());
    std::iter::from_fn(move || {
        let (number, first) = lines.by_ref().find(|(_, line)| !is_blank(line))?;
        let mut text = String::new();
        let mut line = first;
        while let Some(part) = line.trim_end().strip_suffix('\\') {
            text.push_str(part);
            text.push(' ');
            line = lines.by_ref().map(|(_, line)| line).find(|line| !is_blank(line)).unwrap_or_default();
        }
        text.push_str(line);
        Some((number, text))
    })
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# head\nFROM busybox\nRUN echo one && \\\n  # why\n  exit 7\nRUN true\nRUN true\n";

    #[test]
    fn the_step_of_either_builder_is_found() {
        assert_eq!(line_of_step(FILE, "executor failed running [/bin/sh -c echo one &&   exit 7]: exit code: 7"), Some(3));
        assert_eq!(line_of_step(FILE, "The command '/bin/sh -c echo one &&   exit 7' returned a non-zero code: 7"), Some(3));
    }

    #[test]
    fn nothing_is_guessed() {
        assert_eq!(line_of_step(FILE, "The command '/bin/sh -c true' returned a non-zero code: 1"), None, "two lines hold it");
        assert_eq!(line_of_step(FILE, "The command '/bin/sh -c false' returned a non-zero code: 1"), None);
        assert_eq!(line_of_step(FILE, "something else"), None);
    }

    #[test]
    fn the_copy_of_a_missing_file_is_found() {
        let file = "FROM busybox\nCOPY there /\nCOPY --chown=0 ./a/nothing /x\nADD [\"other\", \"/nothing\"]\n";
        for (message, line) in [
            ("failed to compute cache key: \"/a/nothing\" not found: not found", Some(3)),
            ("failed to compute cache key: failed to calculate checksum of ref x::y: \"/other\": not found", Some(4)),
            (
                "COPY failed: file not found in build context or excluded by .dockerignore: stat a/nothing: file does not exist",
                Some(3),
            ),
            ("failed to compute cache key: \"/elsewhere\" not found: not found", None),
            ("COPY failed: forbidden path outside the build context: ../x ()", None),
        ] {
            assert_eq!(line_of(file, "copy_source_missing", message), line, "{message}");
        }
    }

    #[test]
    fn the_base_that_cannot_be_had_is_found() {
        let file = "FROM --platform=linux/amd64 h:5000/team/no-such:1 AS a\nFROM busybox\nFROM busybox AS b\n";
        for (message, line) in [
            (
                "failed to do request: Head \"http://h:5000/v2/team/no-such/manifests/1\": dial tcp: connect: connection refused",
                Some(1),
            ),
            ("h:5000/team/no-such:1: not found", Some(1)),
            ("Head \"https://registry-1.docker.io/v2/library/busybox/manifests/latest\": no such host", None),
            ("Get \"https://registry-1.docker.io/v2/\": no such host", None),
        ] {
            assert_eq!(line_of(file, "base_image_unavailable", message), line, "{message}");
        }
    }
}
