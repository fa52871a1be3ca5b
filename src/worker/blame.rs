//! Which line of the Dockerfile a failed step stands on, where the engine does not say it.

/// How engines quote a failed `RUN` step: BuildKit in brackets, the classic builder in quotes.
const QUOTES: [(&str, &str); 2] =
    [("executor failed running [", "]: exit code"), ("The command '", "' returned a non-zero code")];

/// The line of the only instruction that holds the step which `message` quotes; `None` when there is none, or more than one.
pub fn line_of_step(dockerfile: &str, message: &str) -> Option<u32> {
    let quoted = QUOTES.iter().find_map(|(before, after)| {
        let rest = message.split_once(before)?.1;
        Some(rest.rsplit_once(after)?.0)
    })?;
    let command = words(quoted.strip_prefix("/bin/sh -c ").unwrap_or(quoted));
    let mut found = instructions(dockerfile).filter(|(_, text)| !command.is_empty() && words(text).contains(&command));
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
}
