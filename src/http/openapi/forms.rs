//! Forms that routes read part by part, for the OpenAPI. They know no route: the routes know them.

use serde::Serialize;
use utoipa::ToSchema;

use super::super::view::NetworkView;

/// The path of a route about one build.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct BuildPath {
    /// The build's id.
    #[param(example = "01a1fcc6-00db-778f-aa50-18c1c74c2480")]
    id: uuid::Uuid,
}

/// The parts of an upload, in any order. `ID` in `secret.ID` and `ssh.ID` is not literal: it is the name that you choose, as `secret.npm`.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct Upload {
    /// A Dockerfile alone; beside a context it stands in for the Dockerfile inside.
    #[schema(value_type = String, format = Binary, required = false)]
    file: Vec<u8>,
    /// tar, tar.gz, tar.zst or zip, told by content.
    #[schema(value_type = String, format = Binary, required = false)]
    context: Vec<u8>,
    /// In place of a context: the id of a manifest, all of whose blobs were sent; see `/api/v1/contexts`.
    #[schema(value_type = uuid::Uuid, required = false)]
    manifest: String,
    /// A repository in place of a context, `https://HOST/PATH.git#REF:SUBDIR`: a branch, a tag or a commit, and a folder.
    #[schema(required = false)]
    git: String,
    /// The Dockerfile's path inside the context; `Dockerfile` if absent.
    #[schema(required = false)]
    dockerfile: String,
    /// Destinations, `[host[:port]/]path[:tag]`. At least one is needed, unless `push` is `false`.
    #[schema(required = false)]
    image: Vec<String>,
    /// For the registry host of the images, which must then be one; needs `password`.
    #[schema(required = false)]
    username: String,
    /// Sealed until the build ends, then erased.
    #[schema(format = Password, required = false)]
    password: String,
    /// The name of credentials that you keep, see `/api/v1/registries`; one for each host.
    #[schema(required = false)]
    registry: Vec<String>,
    /// `KEY=VALUE`. They stay readable in the image's history: names that look like a secret's are refused.
    #[schema(required = false)]
    build_arg: Vec<String>,
    /// `KEY=VALUE`.
    #[schema(required = false)]
    label: Vec<String>,
    /// A part for each build secret, `ID` being the name that you choose for it: any bytes, at most 500 KiB, for `RUN --mount=type=secret,id=ID`. Sealed until the
    /// build ends, then erased.
    #[serde(rename = "secret.ID")]
    #[schema(value_type = String, format = Binary, required = false)]
    secret: Vec<u8>,
    /// A part for each private key (OpenSSH's form, without a passphrase), `ID` being the name of its agent, `default` where the
    /// step names none, for `RUN --mount=type=ssh,id=ID`. Sealed until the
    /// build ends, then erased.
    #[serde(rename = "ssh.ID")]
    #[schema(value_type = String, format = Password, required = false)]
    ssh: String,
    /// The stage to build, by its name or number.
    #[schema(required = false)]
    target: String,
    /// `os/arch[/variant]`.
    #[schema(required = false)]
    platform: String,
    /// Build every step anew.
    #[schema(default = false, required = false)]
    no_cache: bool,
    /// Ask the registry for newer base images.
    #[schema(default = false, required = false)]
    pull: bool,
    /// Publish what was built.
    #[schema(default = true, required = false)]
    push: bool,
    /// What belongs together: builds of one project share caches, are kept by one rule and take each other's place. The repository of
    /// the first image if absent.
    #[schema(required = false)]
    project: String,
    /// Images at their registries whose layers may be used as a cache; made with `inline_cache`. One that cannot be read is left out.
    #[schema(required = false)]
    cache_from: Vec<String>,
    /// Make the image usable as a cache.
    #[schema(default = false, required = false)]
    inline_cache: bool,
    /// Use no cache of any kind: neither of layers nor of cache mounts.
    #[schema(default = false, required = false)]
    cold: bool,
    /// End your older live builds of the same image and project.
    #[schema(default = false, required = false)]
    supersede: bool,
    /// Answer with a build of the very same, if one is under way or its result is still there. Not for containers.
    #[schema(default = false, required = false)]
    reuse: bool,
    /// The network of the `RUN` steps.
    #[schema(value_type = NetworkView, inline, required = false)]
    network: String,
    /// Of the `RUN` steps, like `512m`. A limit chooses the classic builder, because BuildKit ignores it.
    #[schema(required = false)]
    memory: String,
    /// For the `RUN` steps, like `1.5`. A limit chooses the classic builder, because BuildKit ignores it.
    #[schema(required = false)]
    cpus: String,
    /// For the whole build, like `15m`.
    #[schema(required = false)]
    timeout: String,
    /// Among the builds of the same owner that wait.
    #[schema(minimum = -10, maximum = 10, default = 0, required = false)]
    priority: i8,
}

/// Names of credentials that you keep, one or several; those of the first build, as they are now, if absent.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum RegistryNames {
    One(String),
    Many(Vec<String>),
}

/// What a retry is given anew, as JSON or as parts of a form: credentials that came with the first build were erased at its end.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct RetryForm {
    /// For the registry host of the images that are missing, which must then be one; needs `password`.
    #[schema(required = false)]
    username: String,
    #[schema(format = Password, required = false)]
    password: String,
    #[schema(value_type = RegistryNames, inline, required = false)]
    registry: Vec<String>,
    /// A part of a form for each build secret that the first build had: all of them and the ssh keys, or none.
    #[serde(rename = "secret.ID")]
    #[schema(value_type = String, format = Binary, required = false)]
    secret: Vec<u8>,
    /// A part of a form for each ssh key that the first build had.
    #[serde(rename = "ssh.ID")]
    #[schema(value_type = String, format = Password, required = false)]
    ssh: String,
    /// Also over tags that younger builds have pushed since: a way back.
    #[schema(default = false, required = false)]
    force: bool,
}

/// The parts of an upload over the older path.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct LegacyUploadForm {
    /// A Dockerfile.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// Also taken as `username`.
    #[schema(required = false)]
    docker_username: String,
    /// Also taken as `password`.
    #[schema(format = Password, required = false)]
    docker_password: String,
    /// `USERNAME/<file's name>` if absent; the tag is the time.
    #[schema(required = false)]
    docker_repo: String,
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    pub status: &'static str,
}
