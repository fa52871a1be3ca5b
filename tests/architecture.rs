//! The plan of the house (`docs/architecture.md`), checked: which room may use which, where adapters may be named, how long a file is.
//!
//! It reads the sources as text, with comments and literals blanked, so that it needs no compiler and sees code under
//! every `cfg`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Longest file, in lines: a longer one is two files.
const LINES: usize = 400;

/// A room of the house, and the rooms that it may use besides itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // The errors of the store become the service's own in one place.
    ("error", &["domain", "store"]),
    ("config", &["domain", "egress"]),
    ("egress", &["domain"]),
    ("telemetry", &["config", "domain"]),
    ("shutdown", &["domain"]),
    ("vault", &["domain"]),
    ("audit", &["domain", "error", "store", "vault"]),
    ("context", &["domain", "egress", "error"]),
    ("store", &["domain", "error"]),
    ("engine", &["domain", "error"]),
    ("registry", &["domain", "egress", "error", "engine"]),
    ("worker", &["domain", "error", "context", "store", "engine", "registry", "vault", "shutdown"]),
    // `engine`: its traits alone. `registry`: DELETE with `?remote=true`.
    ("builds", &["domain", "error", "context", "store", "engine", "registry", "vault", "auth"]),
    ("auth", &["domain", "error", "store"]),
    // `registry`: whether it takes stored credentials.
    ("accounts", &["domain", "error", "store", "apps", "auth", "audit", "builds", "registry", "vault"]),
    // Keeps the containers of a node as their records say, and knows them all.
    ("fleet", &["domain", "error", "store", "engine", "vault", "builds"]),
    // `engine`: its traits alone. `builds`: containers from a Dockerfile.
    ("apps", &["domain", "error", "store", "engine", "vault", "auth", "builds", "fleet"]),
    // `store`: the types of its answers.
    ("hooks", &["domain", "egress", "error", "store", "vault", "auth"]),
    ("http", &["domain", "error", "store", "builds", "apps", "auth", "accounts", "audit", "hooks"]),
    ("janitor", &["domain", "error", "accounts", "builds", "context", "store", "engine", "fleet", "shutdown", "vault"]),
    // Of the operator's commands: it knows the service by its interface alone.
    ("client", &["domain"]),
    ("cli", EVERY),
    ("wiring", EVERY),
    ("main", EVERY),
    // The front page: declares the rooms and uses none.
    ("lib", &[]),
];

/// May use every room.
const EVERY: &[&str] = &["*"];

/// Crates behind which stands another program or a format, and the only places that name them.
const ADAPTERS: &[(&str, &[&str])] = &[
    ("bollard", &["src/engine/docker"]),
    ("bollard_buildkit_proto", &["src/engine/docker"]),
    ("tonic", &["src/engine/docker"]),
    ("prost", &["src/engine/docker"]),
    ("num_bigint", &["src/engine/ssh"]),
    ("redis", &["src/store/redis"]),
    ("rusqlite", &["src/store/sqlite"]),
    ("rusqlite_migration", &["src/store/sqlite"]),
    ("oci_client", &["src/domain/image.rs", "src/registry", "src/engine/docker"]),
    ("object_store", &["src/context"]),
    ("axum", &["src/http", "src/wiring.rs"]),
    ("clap", &["src/cli", "src/config.rs"]),
];

/// `domain` is pure: nothing there reads, writes, waits or asks the machine.
const IMPURE: &[&str] = &["tokio::", "std::fs", "std::net", "std::env", "std::process", "std::thread", "std::io"];

/// One fault, as `file:line: what is wrong`.
type Fault = String;

// ---- reading Rust as text ----

/// The same text with comments and literals blanked out, lines kept.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = skipped_to(text, at);
        if end > at {
            out.extend(text[at..end].chars().filter(|c| *c == '\n'));
            out.push(' ');
            at = end;
        } else {
            let c = text[at..].chars().next().expect("there is a char, because at is inside and on a boundary");
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none begins there.
fn skipped_to(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let to = |found: Option<usize>, len: usize| found.map_or(text.len(), |i| at + i + len);
    let in_word = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        to(rest.find('\n'), 0)
    } else if rest.starts_with("/*") {
        to(rest.find("*/"), 2)
    } else if let Some(hashes) = raw_string_hashes(rest).filter(|_| !in_word) {
        let close = format!("\"{}", "#".repeat(hashes));
        let open = rest.find('"').expect("a raw string has a quote, because raw_string_hashes saw it") + 1;
        to(rest[open..].find(&close).map(|i| i + open), close.len())
    } else if rest.starts_with('"') {
        to(end_of_literal(rest, '"'), 1)
    } else if rest.starts_with('\'') && is_char_literal(rest) {
        to(end_of_literal(rest, '\''), 1)
    } else {
        at
    }
}

/// For `r"`, `r#"`, `br##"` …: how many `#`.
fn raw_string_hashes(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = rest.bytes().take_while(|b| *b == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// `'a'` and `'\n'` are literals, `'a` is a lifetime.
fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => true,
        (Some(_), after) => after == Some('\''),
        _ => false,
    }
}

fn end_of_literal(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    rest.char_indices().skip(1).find_map(|(i, c)| {
        let end = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        end.then_some(i)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn word_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Places where `needle` stands and is not the end of a longer path or word.
fn standing<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(needle).map(|(at, _)| at).filter(|at| {
        let before = code[..*at].trim_end_matches("::");
        let begins_path = before.len() < *at && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>');
        begins_path || !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// The first words of what follows `crate::`: one, or those of a `{…}` group.
fn first_words(rest: &str) -> Vec<(usize, &str)> {
    if !rest.starts_with('{') {
        return vec![(0, word_at(rest))];
    }
    let (mut depth, mut expect, mut words) = (0, false, Vec::new());
    for (i, c) in rest.char_indices() {
        match c {
            '{' => (depth, expect) = (depth + 1, depth == 0),
            '}' => depth -= 1,
            ',' => expect = depth == 1,
            c if expect && !c.is_whitespace() => {
                words.push((i, word_at(&rest[i..])));
                expect = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    words
}

// ---- the rules ----

fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Modules between the crate's root and this file: `super` repeated as often leads out of the room.
fn depth_of(path: &str) -> usize {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').filter(|part| *part != "mod.rs").count()
}

/// Rooms that a file names, with the place in its code.
fn rooms_named(path: &str, code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for root in ["crate::", "dockwright::"] {
        for at in standing(code, root) {
            let from = at + root.len();
            named.extend(first_words(&code[from..]).into_iter().map(|(i, word)| (from + i, word.to_owned())));
        }
    }
    let out = "super::".repeat(depth_of(path));
    for at in standing(code, &out) {
        let from = at + out.len();
        named.extend(first_words(&code[from..]).into_iter().map(|(i, word)| (from + i, word.to_owned())));
    }
    named.retain(|(_, word)| ROOMS.iter().any(|(room, _)| room == word));
    named
}

fn check_rooms(path: &str, code: &str, faults: &mut Vec<Fault>) {
    let room = room_of(path);
    let Some((_, may_use)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        faults.push(format!(
            "{path}:1: `{room}` is no room of the plan; give it a row in docs/architecture.md and tests/architecture.rs"
        ));
        return;
    };
    for (at, used) in rooms_named(path, code) {
        if used != room && *may_use != EVERY && !may_use.contains(&used.as_str()) {
            let line = line_of(code, at);
            faults.push(format!("{path}:{line}: `{room}` may not use `{used}` (it may use: {})", may_use.join(", ")));
        }
    }
}

fn check_adapters(path: &str, code: &str, faults: &mut Vec<Fault>) {
    for (adapter, homes) in ADAPTERS {
        let at_home = |home: &&str| path == *home || path == format!("{home}.rs") || path.starts_with(&format!("{home}/"));
        // Where a module of this very name is declared, the bare name means the module.
        let own_module = code.contains(&format!("mod {adapter};"));
        if homes.iter().any(at_home) {
            continue;
        }
        for at in standing(code, &format!("{adapter}::")) {
            let inside_crate_use = code[..at].rfind(';').map_or(&code[..at], |i| &code[i..at]).contains("use crate::");
            if inside_crate_use || (own_module && !code[..at].ends_with("::")) {
                continue;
            }
            faults.push(format!("{path}:{}: `{adapter}` is named only in {}", line_of(code, at), homes.join(", ")));
        }
    }
}

fn check_purity(path: &str, code: &str, faults: &mut Vec<Fault>) {
    if room_of(path) != "domain" {
        return;
    }
    for impure in IMPURE {
        for at in standing(code, impure) {
            faults.push(format!("{path}:{}: `domain` is pure and does not name `{impure}`", line_of(code, at)));
        }
    }
}

fn check_finished(path: &str, text: &str, code: &str, faults: &mut Vec<Fault>) {
    let lines = text.lines().count();
    if lines > LINES {
        faults.push(format!("{path}:{lines}: {lines} lines; more than {LINES} are two files"));
    }
    for stub in ["todo", "unimplemented", "dbg"] {
        for at in standing(code, &format!("{stub}!(")) {
            faults.push(format!("{path}:{}: `{stub}!` is no finished code", line_of(code, at)));
        }
    }
    for (i, line) in text.lines().enumerate() {
        let mark = ["TO", "FIX"].iter().zip(["DO", "ME"]).any(|(a, b)| line.contains(&format!("{a}{b}")));
        if mark && line.contains("//") {
            faults.push(format!("{path}:{}: a promise in a comment is kept or removed", i + 1));
        }
    }
}

fn check(path: &str, text: &str) -> Vec<Fault> {
    let code = code_only(text);
    let mut faults = Vec::new();
    if path.starts_with("src/") {
        check_rooms(path, &code, &mut faults);
        check_adapters(path, &code, &mut faults);
        check_purity(path, &code, &mut faults);
    }
    check_finished(path, text, &code, &mut faults);
    faults
}

// ---- the house as it is ----

fn rust_files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|e| panic!("cannot read {}: {e}", folder.display())) {
        let path = entry.expect("a folder's entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.insert(path);
        }
    }
}

#[test]
fn the_house_is_as_planned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeSet::new();
    for folder in ["src", "tests"] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "only {} files were found below {}", files.len(), root.display());
    let mut faults = String::new();
    for file in files {
        let path = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("readable UTF-8");
        for fault in check(&path, &text) {
            let _ = writeln!(faults, "  {fault}");
        }
    }
    assert!(faults.is_empty(), "the plan of the house (docs/architecture.md) is broken:\n{faults}");
}

#[test]
fn the_plan_and_its_page_name_the_same_rooms() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = std::fs::read_to_string(&page).expect("docs/architecture.md");
    for (room, _) in ROOMS {
        let named = [format!("`{room}/`"), format!("`{room}.rs`")].iter().any(|name| page.contains(name));
        assert!(named, "docs/architecture.md has no row for `{room}`");
    }
}

// ---- that the rules can be broken ----

#[test]
fn a_forbidden_room_is_told_with_its_line() {
    for (path, text) in [
        ("src/domain/x.rs", "\nuse crate::http::Api;"),
        ("src/domain/x.rs", "\nfn f() -> crate::store::Page { g() }"),
        ("src/store/x.rs", "\nuse crate::{domain::{A, B}, engine::Builder};"),
        ("src/http/x.rs", "\nuse super::super::engine;"),
        ("src/vault.rs", "\nuse super::store::Store;"),
        ("src/context/mod.rs", "\npub use super::{worker, domain};"),
    ] {
        let faults = check(path, text);
        assert_eq!(faults.len(), 1, "{path} {text}: {faults:?}");
        assert!(faults[0].starts_with(&format!("{path}:2: `")), "{faults:?}");
    }
    assert!(check("src/attic/mod.rs", "")[0].contains("no room of the plan"));
}

#[test]
fn allowed_rooms_comments_and_texts_pass() {
    for (path, text) in [
        ("src/store/x.rs", "use crate::{domain::{http, engine}, error::Error};"),
        ("src/domain/x.rs", "//! [`crate::http`]\n/* crate::http */ const A: &str = \"crate::http\"; const B: char = '\"';"),
        ("src/domain/x.rs", "const A: &str = r#\"crate::http \" \"#; fn f<'a>(x: &'a str) {}"),
        ("src/http/mod.rs", "use super::http::x; use self::domain::y;"),
        ("src/wiring.rs", "use crate::store::{redis::RedisStore, sqlite};"),
        ("src/store/mod.rs", "pub mod redis;\nuse redis::RedisStore;"),
        ("src/store/redis/mod.rs", "use redis::Client;"),
        ("src/engine/docker/push.rs", "use bollard::Docker;"),
    ] {
        assert_eq!(check(path, text), Vec::<Fault>::new(), "{path} {text}");
    }
}

#[test]
fn an_adapter_outside_its_home_is_told() {
    for (path, text) in [
        ("src/worker/mod.rs", "use bollard::Docker;"),
        ("src/worker/mod.rs", "fn f(c: ::redis::Client) {}"),
        ("src/store/mod.rs", "pub mod redis;\nuse ::redis::Client;"),
        ("src/builds/mod.rs", "fn f() { rusqlite::Connection::open(p) }"),
        ("src/domain/x.rs", "use tokio::fs;"),
        ("src/domain/x.rs", "fn f() { std::fs::read(p) }"),
        ("src/builds/mod.rs", "fn f() { dbg!(1) }"),
    ] {
        assert_eq!(check(path, text).len(), 1, "{path} {text}: {:?}", check(path, text));
    }
    assert_eq!(check("src/vault.rs", &"\n".repeat(LINES + 1)).len(), 1);
}
