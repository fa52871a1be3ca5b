//! The names of fields: those that there are, those that there will never be, and what to say of any other.

use super::fields::shown;

/// What a spec may hold; the last two for admins alone.
pub const FIELDS: &[&str] = &[
    "image",
    "build",
    "command",
    "entrypoint",
    "env",
    "ports",
    "volumes",
    "network",
    "memory",
    "cpus",
    "pids",
    "restart",
    "user",
    "workdir",
    "read_only",
    "healthcheck",
    "labels",
    "tty",
    "binds",
    "publish_on",
];

/// The fields of `docker run`, of a Compose file and of the engine's own requests that would lead out of the container, weigh on its
/// neighbours or change what the service relies on; each without its separators and in lower case, so that every spelling is found.
const NEVER: &[(&str, &[&str])] = &[
    (
        "containers have the same short list of capabilities, whoever asks",
        &["privileged", "capadd", "capdrop", "cap", "capabilities"],
    ),
    (
        "how containers are confined cannot be changed",
        &[
            "securityopt",
            "securityopts",
            "securityoptions",
            "apparmor",
            "apparmorprofile",
            "seccomp",
            "seccompprofile",
            "selinux",
            "nonewprivileges",
            "credentialspec",
            "maskedpaths",
            "readonlypaths",
            "systempaths",
            "unmask",
            "isolation",
            "runtime",
            "sysctl",
            "sysctls",
            "groupadd",
            "annotation",
            "annotations",
            "useapisocket",
        ],
    ),
    (
        "devices of the host are not for containers",
        &[
            "device",
            "devices",
            "devicerequest",
            "devicerequests",
            "devicecgrouprule",
            "devicecgrouprules",
            "devicereadbps",
            "devicereadiops",
            "devicewritebps",
            "devicewriteiops",
            "gpu",
            "gpus",
            "blkioconfig",
            "blkioweight",
            "blkioweightdevice",
            "blkiodevicereadbps",
            "blkiodevicereadiops",
            "blkiodevicewritebps",
            "blkiodevicewriteiops",
            "iomaximumbandwidth",
            "iomaximumiops",
        ],
    ),
    (
        "containers have namespaces and a cgroup of their own",
        &[
            "pid",
            "pidmode",
            "ipc",
            "ipcmode",
            "uts",
            "utsmode",
            "userns",
            "usernsmode",
            "usernsremap",
            "cgroup",
            "cgroupmode",
            "cgroupns",
            "cgroupnsmode",
            "cgroupparent",
            "cgroupspec",
        ],
    ),
    (
        "a network is chosen with `network`: one of your own by its name, or \"none\"",
        &["net", "networkmode", "networks", "networkingconfig", "networkdisabled", "endpointsconfig"],
    ),
    (
        "names and addresses in the network are given by the service",
        &[
            "link",
            "links",
            "legacylinks",
            "externallinks",
            "extrahost",
            "extrahosts",
            "addhost",
            "dns",
            "dnsopt",
            "dnsopts",
            "dnsoption",
            "dnsoptions",
            "dnssearch",
            "domainname",
            "hostname",
            "macaddress",
            "ip",
            "ip6",
            "ipv4address",
            "ipv6address",
            "linklocalip",
            "linklocalips",
            "networkalias",
            "networkaliases",
            "alias",
            "aliases",
            "driveropts",
        ],
    ),
    (
        "ports are published one by one, with `ports`, on the address that the operator has chosen",
        &["publishall", "publishallports", "p", "portbindings", "hostip"],
    ),
    (
        "data is kept in `volumes` of your own; folders of the host and options of drivers are not available",
        &[
            "bind",
            "hostpath",
            "mount",
            "mounts",
            "v",
            "volumedriver",
            "volumeoptions",
            "volumesfrom",
            "volumefrom",
            "tmpfs",
            "tmpfsoptions",
            "bindoptions",
            "driver",
            "driverconfig",
            "driveroptions",
            "options",
            "propagation",
            "bindpropagation",
            "nocopy",
            "createhostpath",
            "subpath",
            "volumesubpath",
            "consistency",
            "source",
            "src",
            "shmsize",
            "storageopt",
            "storageopts",
        ],
    ),
    (
        "limits are set with `memory`, `cpus` and `pids`, and none can be taken away",
        &[
            "ulimit",
            "ulimits",
            "oomkilldisable",
            "oomscoreadj",
            "memoryswap",
            "memswaplimit",
            "memoryswappiness",
            "memswappiness",
            "memoryreservation",
            "memreservation",
            "kernelmemory",
            "kernelmemorytcp",
            "cpushares",
            "cpushare",
            "cpuperiod",
            "cpuquota",
            "cpucount",
            "cpupercent",
            "cpurtperiod",
            "cpurtruntime",
            "cpurealtimeperiod",
            "cpurealtimeruntime",
            "cpuset",
            "cpusetcpus",
            "cpusetmems",
            "resources",
            "deploy",
        ],
    ),
    ("the output is kept by the service", &["logdriver", "logopt", "logopts", "logconfig", "logging"]),
    (
        "no file outside of the request is read",
        &[
            "envfile",
            "labelfile",
            "cidfile",
            "containeridfile",
            "extends",
            "include",
            "configs",
            "config",
            "secrets",
            "secretfile",
            "dockerfile",
        ],
    ),
    ("the engine's own requests are not passed on; write the fields at the top", &["hostconfig", "containerconfig", "spec"]),
];

/// Other people's names of our fields.
const ALIASES: &[(&str, &str)] = &[
    ("cmd", "command"),
    ("args", "command"),
    ("environment", "env"),
    ("envvars", "env"),
    ("e", "env"),
    ("expose", "ports"),
    ("exposedports", "ports"),
    ("publish", "ports"),
    ("volume", "volumes"),
    ("memlimit", "memory"),
    ("mem", "memory"),
    ("m", "memory"),
    ("memorylimit", "memory"),
    ("memorybytes", "memory"),
    ("nanocpus", "cpus"),
    ("cpulimit", "cpus"),
    ("millicpus", "cpus"),
    ("pidslimit", "pids"),
    ("restartpolicy", "restart"),
    ("workingdir", "workdir"),
    ("w", "workdir"),
    ("cwd", "workdir"),
    ("readonlyrootfs", "read_only"),
    ("readonlyfs", "read_only"),
    ("ro", "read_only"),
    ("healthcmd", "healthcheck"),
    ("health", "healthcheck"),
    ("t", "tty"),
    ("username", "user"),
    ("u", "user"),
    ("privateport", "container"),
    ("containerport", "container"),
    ("target", "path"),
    ("published", "host"),
    ("publicport", "host"),
    ("hostport", "host"),
    ("mountpath", "path"),
    ("destination", "path"),
    ("type", "protocol"),
    ("name", "volume"),
    ("startinterval", "interval"),
];

/// `--cap-add=ALL`, `CapAdd`, `cap_add` → `capadd`.
fn bare(key: &str) -> String {
    let name = key.split('=').next().unwrap_or_default();
    name.chars().filter(|c| !matches!(c, '_' | '-' | '.' | ' ' | '\t')).flat_map(char::to_lowercase).collect()
}

fn never(bare: &str) -> Option<&'static str> {
    NEVER.iter().find(|(_, names)| names.contains(&bare)).map(|(why, _)| *why)
}

/// The field that was meant, if one comes to mind.
fn meant(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let bare = bare(key);
    let spelled = known.iter().find(|name| self::bare(name) == bare);
    let alias = || ALIASES.iter().find(|(alias, name)| *alias == bare && known.contains(name)).map(|(_, name)| name);
    // Twice as far for a long word as for a short one.
    let close = |name: &str| strsim::damerau_levenshtein(&bare, &self::bare(name));
    let near = || known.iter().filter(|name| close(name) <= (name.len() / 3).min(2)).min_by_key(|name| close(name));
    spelled.or_else(alias).or_else(near).copied()
}

/// What to say of a field that there is not among those that there are.
pub fn refusal(key: &str, known: &[&'static str]) -> String {
    let name = shown(key);
    // A long key is compared with nothing: that would take its length squared.
    if key.len() > 64 {
        return format!("`{name}` is no field");
    }
    let bare = bare(key);
    if let Some(why) = never(&bare).filter(|_| !known.iter().any(|field| self::bare(field) == bare)) {
        return format!("`{name}` is not available: {why}");
    }
    match meant(key, known) {
        Some(field) => format!("`{name}` is no field; did you mean `{field}`?"),
        None => format!("`{name}` is no field; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_never_field_is_told_as_such() {
        for key in [
            "privileged",
            "Privileged",
            "--privileged",
            "--privileged=true",
            "PRIVILEGED",
            "cap_add",
            "capAdd",
            "CapAdd",
            "cap-add",
        ] {
            assert!(refusal(key, FIELDS).starts_with(&format!("`{key}` is not available: ")), "{}", refusal(key, FIELDS));
        }
        for (_, names) in NEVER {
            for name in *names {
                assert_eq!(*name, bare(name), "is never found");
                assert!(!FIELDS.iter().any(|field| bare(field) == *name), "{name} is both a field and none");
            }
        }
    }

    #[test]
    fn near_misses_are_told_what_was_meant() {
        for (key, field) in [
            ("Image", "image"),
            ("imgae", "image"),
            ("imаge", "image"),
            ("readOnly", "read_only"),
            ("read-only", "read_only"),
            ("working_dir", "workdir"),
            ("environment", "env"),
            ("Cmd", "command"),
            ("commnd", "command"),
            ("mem_limit", "memory"),
            ("--memory", "memory"),
            ("PidsLimit", "pids"),
            ("health_check", "healthcheck"),
            ("Binds", "binds"),
        ] {
            assert_eq!(refusal(key, FIELDS), format!("`{key}` is no field; did you mean `{field}`?"));
        }
        assert!(refusal("colour", FIELDS).starts_with("`colour` is no field; there are: image, build"));
        assert!(refusal(&"x".repeat(10_000), FIELDS).len() < 200);
    }
}
