use std::io::Write;

use dockwright::context::archive::{ArchiveLimits, DockerfileAt, inspect};
use dockwright::context::stream::{Assemble, Source, open};
use dockwright::context::{ContextError, ContextFault};
use dockwright::domain::BuilderKind;
use futures::StreamExt;
use proptest::prelude::*;

use super::make::{Tar, ZipEntry, gzip, header, seal, stored, zip, zip_over_itself, zstd};

const DOCKERFILE: DockerfileAt<'static> = DockerfileAt { path: "Dockerfile", replaced: false };

fn limits() -> ArchiveLimits {
    ArchiveLimits { expanded_bytes: 8 << 20, entries: 1000, ratio: 100 }
}

fn fault_of(bytes: &[u8]) -> ContextFault {
    let file = stored(bytes);
    match inspect(file.path(), &limits(), DOCKERFILE) {
        Err(ContextError::Refused(fault)) => fault,
        other => panic!("must be refused, not {other:?}"),
    }
}

fn ok() -> Tar {
    Tar::new().file("Dockerfile", b"FROM x\n")
}

fn tars() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let bad_sum = {
        let mut block = header(b"a", b'0', 0, b"");
        block[0] = b'b';
        block
    };
    let negative_size = {
        let mut block = header(b"a", b'0', 0, b"");
        block[124..136].copy_from_slice(&[0xff; 12]);
        seal(&mut block);
        block
    };
    vec![
        ("parent", ok().file("../x", b"").end(), "path_escapes"),
        ("parent inside", ok().file("a/../../x", b"").end(), "path_escapes"),
        ("absolute", ok().file("/etc/passwd", b"").end(), "absolute_path"),
        ("through a link", ok().symlink("a", "/etc").file("a/passwd", b"").end(), "path_through_link"),
        ("through a link, deep", ok().symlink("a/b", "c").file("./a//b/c/d", b"").end(), "path_through_link"),
        ("link named like a directory", ok().symlink("a/", "b").end(), "ambiguous_header"),
        ("through a file", ok().file("a", b"").file("a/b", b"").end(), "path_through_file"),
        ("link to outside", ok().hard_link("a", "/etc/passwd").end(), "hard_link_outside"),
        ("link to parent", ok().hard_link("a", "../x").end(), "hard_link_outside"),
        ("link to what comes later", ok().hard_link("a", "b").file("b", b"").end(), "hard_link_outside"),
        ("link to a directory", ok().dir("d/").hard_link("a", "d").end(), "hard_link_outside"),
        ("link through a link", ok().symlink("d", "/etc").hard_link("a", "d/passwd").end(), "hard_link_outside"),
        ("character device", ok().entry("null", b'3', "").end(), "device_node"),
        ("block device", ok().entry("sda", b'4', "").end(), "device_node"),
        ("FIFO", ok().entry("pipe", b'6', "").end(), "fifo"),
        ("path twice", ok().file("a", b"1").file("a", b"2").end(), "duplicate_path"),
        ("path twice, spelled otherwise", ok().file("a/b", b"1").file("./a//b", b"2").end(), "duplicate_path"),
        ("file over its directory", ok().file("a/b", b"").file("a", b"").end(), "duplicate_path"),
        ("link over its directory", ok().dir("a/").symlink("a", "/etc").end(), "duplicate_path"),
        ("directory over a link", ok().symlink("a", "/etc").dir("a/").end(), "duplicate_path"),
        ("no name", ok().file("./", b"x").end(), "invalid_path"),
        ("not UTF-8", ok().file(b"a\xff", b"").end(), "path_not_utf8"),
        ("part too long", ok().gnu(b'L', &"a".repeat(256)).file("a", b"").end(), "path_too_long"),
        ("path too long", ok().gnu(b'L', &"a/".repeat(2100)).file("a", b"").end(), "path_too_long"),
        ("sparse, old GNU", ok().entry("a", b'S', "").end(), "sparse_file"),
        ("sparse, PAX", ok().pax(b'x', &[("GNU.sparse.major", "1")]).file("a", b"").end(), "sparse_file"),
        ("volume", ok().entry("a", b'M', "").end(), "unsupported_entry"),
        ("PAX size differs", ok().pax(b'x', &[("size", "1024")]).file("a", b"x").end(), "ambiguous_header"),
        ("PAX path twice", ok().pax(b'x', &[("path", "b"), ("path", "c")]).file("a", b"").end(), "ambiguous_header"),
        ("PAX path for all", ok().pax(b'g', &[("path", "b")]).file("a", b"").end(), "ambiguous_header"),
        ("PAX size for all", ok().pax(b'g', &[("size", "0")]).file("a", b"").end(), "ambiguous_header"),
        ("PAX and GNU name", ok().gnu(b'L', "b").pax(b'x', &[("path", "c")]).file("a", b"").end(), "ambiguous_header"),
        (
            "two PAX headers",
            ok().pax(b'x', &[("path", "b")]).pax(b'x', &[("path", "c")]).file("a", b"").end(),
            "ambiguous_header",
        ),
        ("PAX malformed", ok().raw(&header(b"p", b'x', 9, b"")).data(b"99 path=b").file("a", b"").end(), "ambiguous_header"),
        (
            "PAX signed length",
            ok().raw(&header(b"p", b'x', 10, b"")).data(b"+10 path=b").file("a", b"").end(),
            "ambiguous_header",
        ),
        ("PAX escapes", ok().pax(b'x', &[("path", "../x")]).file("a", b"").end(), "path_escapes"),
        ("PAX link escapes", ok().pax(b'x', &[("linkpath", "../x")]).hard_link("a", "Dockerfile").end(), "hard_link_outside"),
        ("PAX NUL", ok().pax(b'x', &[("path", "a\0b")]).file("a", b"").end(), "invalid_path"),
        ("PAX before nothing", ok().pax(b'x', &[("path", "b")]).end(), "ambiguous_header"),
        ("GNU name goes on", ok().gnu(b'L', "a\0b").file("a", b"").end(), "ambiguous_header"),
        ("GNU escapes", ok().gnu(b'L', "../x").file("a", b"").end(), "path_escapes"),
        ("directory with data", ok().raw(&header(b"d/", b'5', 512, b"")).data(&[0; 512]).end(), "ambiguous_header"),
        ("link with data", ok().raw(&header(b"l", b'1', 512, b"Dockerfile")).data(&[0; 512]).end(), "ambiguous_header"),
        ("wrong checksum", ok().raw(&bad_sum).end(), "corrupt_archive"),
        ("negative size", ok().raw(&negative_size).end(), "corrupt_archive"),
        ("cut in a file", ok().raw(&header(b"a", b'0', 4096, b"")).raw(b"short").cut(), "truncated_archive"),
        ("cut in a header", ok().raw(&header(b"a", b'0', 0, b"")[..300]).cut(), "truncated_archive"),
        ("cut before its end", ok().cut(), "truncated_archive"),
        ("goes on after its end", [ok().end(), ok().end()].concat(), "trailing_data"),
        (
            "too many directories in one path",
            ok().gnu(b'L', &format!("{}b", "a/".repeat(1200))).file("a", b"").end(),
            "too_many_entries",
        ),
        ("Dockerfile is a directory", Tar::new().dir("Dockerfile/").end(), "dockerfile_is_directory"),
        ("Dockerfile is a link", Tar::new().symlink("Dockerfile", "/etc/passwd").end(), "dockerfile_is_link"),
        ("bad ignore file", ok().file(".dockerignore", b"ok\n[").end(), "invalid_dockerignore"),
    ]
}

fn zips() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let docker = || ZipEntry::new("Dockerfile", b"FROM x\n");
    let one = |entry| zip(&[docker(), entry]);
    let plain = |name: &str| ZipEntry::new(name, b"x");
    vec![
        ("parent", one(plain("../x")), "path_escapes"),
        ("absolute", one(plain("/x")), "absolute_path"),
        ("backslash", one(plain("..\\x")), "invalid_path"),
        ("NUL", one(plain("a\0b")), "invalid_path"),
        ("twice", one(plain("Dockerfile")), "duplicate_path"),
        ("through a link", zip(&[docker(), ZipEntry::mode("a", b"/etc", 0o120_777), plain("a/b")]), "path_through_link"),
        ("FIFO", one(ZipEntry::mode("a", b"", 0o010_644)), "fifo"),
        ("socket", one(ZipEntry::mode("a", b"", 0o140_644)), "fifo"),
        ("device", one(ZipEntry::mode("a", b"", 0o020_644)), "device_node"),
        ("two names", one(ZipEntry { local_name: "b".into(), ..plain("a") }), "zip_names_differ"),
        ("encrypted", one(ZipEntry { flags: 1, ..plain("a") }), "zip_encrypted"),
        ("wrong checksum", one(ZipEntry { crc: 1, ..plain("a") }), "corrupt_archive"),
        ("longer than it says", one(ZipEntry { size: Some(1), ..ZipEntry::new("a", b"four") }), "corrupt_archive"),
        ("shorter than it says", one(ZipEntry { size: Some(9), ..ZipEntry::new("a", b"four") }), "corrupt_archive"),
        ("directory by mode alone", one(ZipEntry::mode("a", b"", 0o040_755)), "ambiguous_header"),
        ("directory with data", one(ZipEntry::mode("a/", b"x", 0o040_755)), "ambiguous_header"),
        ("empty link", one(ZipEntry::mode("a", b"", 0o120_777)), "invalid_path"),
        ("over itself", zip_over_itself(50), "zip_overlap"),
        ("trailing", [one(plain("a")), b"more".to_vec()].concat(), "trailing_data"),
        ("leading", [b"PK\x03\x04 a stub before".to_vec(), one(plain("a"))].concat(), "corrupt_archive"),
        ("cut", one(plain("a"))[..60].to_vec(), "truncated_archive"),
    ]
}

fn large() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let zeros = vec![0; 4 << 20];
    let tar = ok().file("zeros", &zeros).end();
    let nine = ok().raw(&header(b"a", b'0', 9 << 20, b"")).cut();
    let many = || (0..1001).fold(Tar::new(), |tar, n| tar.file(format!("{n}"), b"")).end();
    let metas = (0..20_000).fold(ok(), |tar, _| tar.pax(b'g', &[("comment", "x")])).end();
    vec![
        ("gzip bomb", gzip(&tar), "compression_ratio"),
        ("zstd bomb", zstd(&tar), "compression_ratio"),
        ("zip bomb", zip(&[ZipEntry::new("zeros", &zeros)]), "compression_ratio"),
        ("bomb of zeros after the end", gzip(&[ok().end(), zeros].concat()), "compression_ratio"),
        ("bomb of headers", gzip(&metas), "expanded_too_large"),
        ("more bytes than allowed", nine, "expanded_too_large"),
        ("more entries than allowed", many(), "too_many_entries"),
        ("more entries than allowed, packed", gzip(&many()), "too_many_entries"),
        ("Dockerfile too large", Tar::new().file("Dockerfile", &vec![b'#'; (1 << 20) + 1]).end(), "dockerfile_too_large"),
    ]
}

#[test]
fn context_hostile_archives_are_refused_by_code() {
    for (name, bytes, code) in tars().into_iter().chain(zips()) {
        let fault = fault_of(&bytes);
        let too_large = code == "too_many_entries";
        assert_eq!((fault.code, fault.too_large), (code, too_large), "{name}: {fault}");
    }
}

#[test]
fn context_hostile_tars_are_refused_packed_too() {
    for (name, bytes, code) in tars() {
        assert_eq!(fault_of(&gzip(&bytes)).code, code, "{name}, gzip");
        assert_eq!(fault_of(&zstd(&bytes)).code, code, "{name}, zstd");
    }
}

#[test]
fn context_bombs_are_told_as_too_large() {
    for (name, bytes, code) in large() {
        let fault = fault_of(&bytes);
        assert_eq!((fault.code, fault.too_large), (code, true), "{name}: {fault}");
        assert!(fault.detail.contains("limit") && fault.detail.contains(|c: char| c.is_ascii_digit()), "{name}: {fault}");
    }
}

#[test]
fn context_what_is_no_archive_is_unknown() {
    for bytes in [&b""[..], b"hello", b"%PDF-1.7", b"BZh91AY&SY", b"\xfd7zXZ\0", &[7; 2000]] {
        assert_eq!(fault_of(bytes).code, "unknown_archive", "{bytes:?}");
    }
}

#[test]
fn context_packed_archives_that_are_damaged_are_told_apart_from_cut_ones() {
    let noise: Vec<u8> = (0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tar = ok().file("noise", &noise).end();
    for packed in [gzip(&tar), zstd(&tar)] {
        assert_eq!(fault_of(&packed[..packed.len() / 2]).code, "truncated_archive");
        // The last bytes of the last frame: a gzip checksum, or the data itself.
        assert_eq!(fault_of(&packed[..packed.len() - 2]).code, "truncated_archive");
    }
    let mut packed = gzip(&tar);
    let at = packed.len() - 6;
    packed[at] ^= 0xff;
    assert_eq!(fault_of(&packed).code, "corrupt_archive");
}

/// What was refused when it came in is refused as well when it would go out.
#[tokio::test]
async fn context_hostile_archives_do_not_get_to_the_engine() {
    for (name, bytes, code) in tars().into_iter().chain(zips()) {
        if code.starts_with("dockerfile_") {
            continue;
        }
        let file = stored(&bytes);
        let plan = Assemble { dockerfile: "Dockerfile".into(), builder: BuilderKind::Buildkit, limits: limits() };
        let chunks: Vec<_> = open(Source::Archive { path: file.path().into(), replacement: None }, plan).collect().await;
        let error = chunks.into_iter().find_map(Result::err).unwrap_or_else(|| panic!("{name} went through"));
        let fault = error.get_ref().and_then(|e| e.downcast_ref::<ContextFault>());
        assert_eq!(fault.map(|f| f.code), Some(code), "{name}: {error}");
    }
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let tar = Tar::new()
        .dir("d/")
        .pax(b'x', &[("path", "d/long name"), ("mtime", "1.5")])
        .file("x", b"0123456789")
        .gnu(b'L', "d/other")
        .file("x", &[7; 600])
        .hard_link("h", "d/other")
        .symlink("s", "/etc")
        .end();
    let zip = zip(&[ZipEntry::new("Dockerfile", b"FROM x\n"), ZipEntry::mode("s", b"/etc", 0o120_777), ZipEntry::new("d/", b"")]);
    let packed = (gzip(&tar), zstd(&tar));
    let base = prop::sample::select(vec![tar, zip, packed.0, packed.1]);
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12);
    (base, edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut bytes, edits, cut, cuts)| {
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

#[test]
fn context_zstd_that_would_take_too_much_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.window_log(27).expect("128 MiB");
    encoder.write_all(&ok().end()).expect("memory takes it");
    assert_eq!(fault_of(&encoder.finish().expect("memory takes it")).code, "zstd_window");
}

proptest! {
    /// Whatever the bytes are, there is an answer, and nothing beyond the limits in it.
    #[test]
    fn context_any_archive_gets_an_answer(bytes in mutated()) {
        let file = stored(&bytes);
        if let Ok(found) = inspect(file.path(), &limits(), DOCKERFILE) {
            prop_assert!(found.expanded_bytes <= limits().expanded_bytes && found.files <= limits().entries);
        }
    }
}
