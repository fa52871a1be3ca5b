use super::Ignore;

fn excludes(text: &str, path: &str) -> bool {
    Ignore::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}")).excludes(path)
}

/// Pattern, path, whether Docker's own matcher leaves the path out.
const CASES: &[(&str, &str, bool)] = &[
    // `**` alone, before and behind.
    ("**", "file", true),
    ("**/", "file", true),
    ("**", "dir/file", true),
    ("**/**", "dir/file", true),
    ("dir/**", "dir/file", true),
    ("dir/**", "dir/dir2/file", true),
    ("dir/**", "dir", false),
    ("**/dir", "dir", true),
    ("**/dir", "dir/file", true),
    ("**/dir2/*", "dir/dir2/file", true),
    ("**/dir2/**", "dir/dir2/dir3/file", true),
    ("**file", "file", true),
    ("**file", "dir/file", true),
    ("**file", "xfile", true),
    ("**/file", "xfile", false),
    ("**file*", "xfile", false),
    ("**/file", "dir/dir/file", true),
    ("**/file*", "dir/dir/file.txt", true),
    ("**/file*txt", "dir/dir/file.txt", true),
    ("**/file*.txt*", "dir/dir/file.txt", true),
    ("**/**/*.txt", "dir/dir/file.txt", true),
    ("**/**/*.txt2", "dir/dir/file.txt", false),
    ("**/*.txt", "file.txt", true),
    ("**/**/*.txt", "file.txt", true),
    ("a**/*.txt", "a/file.txt", true),
    ("a**/*.txt", "a/dir/dir/file.txt", true),
    ("a/*.txt**", "a/file.txt", true),
    ("**/foo/bar", "dir/dir2/foo/bar", true),
    ("**/foo/bar", "foo/bar", true),
    ("**/.foo", "bar.foo", false),
    // `*` and `?` stay inside one part.
    ("a/*.txt", "a/dir/file.txt", false),
    ("a/*.txt", "a/file.txt", true),
    ("*", "abc", true),
    ("*c", "abc", true),
    ("a*", "a", true),
    ("a*", "ab/c", true),
    ("a*/b", "abc/b", true),
    ("a*/b", "a/c/b", false),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
    ("a*b?c*x", "abxbbxdbxebxczzx", true),
    ("a*b?c*x", "abxbbxdbxebxczzy", false),
    ("abc?def", "abcZdef", true),
    ("abc?def", "abcdef", false),
    ("a?b", "a☺b", true),
    ("a???b", "a☺b", false),
    ("a?b", "a/b", false),
    ("a*b", "a/b", false),
    // Classes and escapes.
    ("a[b-d]e", "ae", false),
    ("a[b-d]e", "ace", true),
    ("a[^b-d]e", "aze", true),
    ("ab[^c]", "abc", false),
    ("a[^a]b", "a☺b", true),
    ("[a-ζ]*", "α", true),
    ("*[a-ζ]", "A", false),
    ("[\\]a]", "]", true),
    ("[\\-x]", "-", true),
    ("[x\\-]", "z", false),
    ("a\\*b", "a*b", true),
    ("a\\*b", "axb", false),
    ("a\\\\", "a\\", true),
    // Characters that mean something only to regular expressions.
    (".*", ".foo", true),
    (".*", "foo", false),
    ("abc.def", "abcZdef", false),
    ("a(b)c/def", "a(b)c/def", true),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
    ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true),
    // What is in an excluded directory is excluded; names are compared whole.
    ("docs", "docs/README.md", true),
    ("docs/", "docs/a/b/c", true),
    ("docs", "docs2", false),
    ("docs", "a/docs", false),
    // Cleaning.
    ("/docs", "docs/x", true),
    ("./docs/../src//", "src/main.rs", true),
    ("  docs  ", "docs", true),
    ("../x", "x", false),
    ("/", "x", false),
    (".", "x", false),
];

#[test]
fn matches_as_docker_does() {
    for (pattern, path, expected) in CASES {
        assert_eq!(excludes(pattern, path), *expected, "pattern {pattern:?}, path {path:?}");
    }
}

#[test]
fn the_last_rule_that_matches_wins() {
    for (text, path, expected) in [
        ("**\n!util/docker/web", "util/docker/web/foo", false),
        ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", true),
        ("**\n!dist/*.whl", "dist/a.whl", false),
        ("!a.go\n*.go", "a.go", true),
        ("*.go\n!a.go", "a.go", false),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs\n!docs/README.md", "docs/other.md", true),
        ("docs/*\n! /docs/README.md", "docs/README.md", false),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
    ] {
        assert_eq!(excludes(text, path), expected, "{text:?}, {path:?}");
    }
}

#[test]
fn comments_blank_lines_bom_and_crlf_are_read() {
    let text = "\u{feff}# comment\r\n\r\n*.log\r\n #not-a-comment\n";
    assert!(excludes(text, "a.log"));
    assert!(!excludes(text, "# comment"));
    assert!(excludes(text, "#not-a-comment"));
}

#[test]
fn malformed_patterns_name_their_line() {
    for bad in ["[", "[^", "[^bc", "a[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "\\", "!", "! ", "!/", "[Local-Only]"] {
        let fault = Ignore::parse(format!("ok\n{bad}\n").as_bytes()).expect_err(bad);
        assert_eq!(fault.code, "invalid_dockerignore", "{bad}");
        assert!(fault.detail.contains("line 2 "), "{bad}: {fault}");
    }
}

#[test]
fn a_spiteful_pattern_costs_no_more_than_its_length() {
    let pattern = "*a".repeat(200) + "b";
    assert!(!excludes(&pattern, &"a".repeat(4000)));
}

#[test]
fn the_own_ignore_file_stands_beside_the_dockerfile() {
    assert!(super::is_own_ignore_file("docker/Dockerfile.prod.dockerignore", "docker/Dockerfile.prod"));
    assert!(super::is_ignore_file(".dockerignore", "docker/Dockerfile"));
    assert!(!super::is_ignore_file("docker/.dockerignore", "docker/Dockerfile"));
}
