//! What a container may be asked for, as clients see it. It is read by `apps::spec`, field by field, and not through these types:
//! they only tell; a test holds their names to those that are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

/// The fields that every way of making a container has, after those of its own.
macro_rules! input {
    ($(#[$doc:meta])* $name:ident { $($(#[$own_doc:meta])* $own:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only its schema is used")]
        pub struct $name {
            $($(#[$own_doc])* $own: $kind,)*
            /// By name, or by name and digest; this or `build`.
            #[schema(example = "nginx:1.27")]
            image: Option<String>,
            /// The id of one of your builds; this or `image`.
            #[schema(format = Uuid)]
            build: Option<String>,
            /// Arguments; the image's own if absent.
            #[schema(max_items = 256)]
            command: Option<Vec<String>>,
            /// The image's own if absent.
            #[schema(max_items = 256)]
            entrypoint: Option<Vec<String>>,
            env: Option<BTreeMap<String, Variable>>,
            /// Ports that are published on the host.
            #[schema(max_items = 64)]
            ports: Option<Vec<PortInput>>,
            /// Volumes of your own.
            #[schema(max_items = 64)]
            volumes: Option<Vec<VolumeInput>>,
            /// A network of your own by its name, or `none`; `default` if absent.
            network: Option<String>,
            /// Memory and swap together, like `512m`, or a number of bytes.
            memory: Option<Amount>,
            /// Like `1.5`.
            cpus: Option<Amount>,
            /// Most processes and threads.
            #[schema(minimum = 1)]
            pids: Option<u64>,
            /// `no`, `on-failure`, `on-failure:N`, `always` or `unless-stopped`.
            #[schema(default = "no")]
            restart: Option<String>,
            /// `user[:group]`, by name or number; the image's own if absent.
            user: Option<String>,
            /// Absolute; the image's own if absent.
            workdir: Option<String>,
            /// Whether nothing but volumes can be written to.
            #[schema(default = false)]
            read_only: Option<bool>,
            healthcheck: Option<HealthcheckInput>,
            /// Keys that begin with `dockwright.` are the service's own.
            labels: Option<BTreeMap<String, String>>,
            /// Whether its process has a terminal.
            #[schema(default = false)]
            tty: Option<bool>,
            /// For admins: folders of the host, below those that the operator has allowed.
            #[schema(max_items = 64)]
            binds: Option<Vec<BindInput>>,
            /// For admins: the address of the host that the ports are published on.
            publish_on: Option<String>,
        }
    };
}

input! {
    /// An app.
    AppInput {
        /// 1 to 63 of `a-z 0-9 -`; no other of your apps has it.
        #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
        name: String,
    }
}

input! {
    /// A change of an app (RFC 7396): what is absent stays, what is `null` goes back to its default.
    AppPatch {
        /// Another name.
        #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
        name: Option<String>,
    }
}

input! {
    /// A container that runs once, without an app.
    ContainerInput {
        /// Name of credentials that you keep, for pulling the image.
        registry: Option<String>,
    }
}

/// A value, open or secret.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum Variable {
    Open(String),
    Secret(SecretVariable),
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct SecretVariable {
    secret: SecretValue,
}

/// The value, which is sealed and never shown; `true` stands for the one that there is.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum SecretValue {
    New(String),
    Kept(bool),
}

/// A text with its unit, or a number.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum Amount {
    Text(String),
    Number(f64),
}

/// A published port, or the container's alone, which gets a free one of the host.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum PortInput {
    Container(u16),
    Published(PublishedPortInput),
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct PublishedPortInput {
    #[schema(minimum = 1)]
    container: u16,
    /// Of the range that the operator has set; a free one of it if absent.
    host: Option<u16>,
    /// `tcp` or `udp`.
    #[schema(default = "tcp")]
    protocol: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct VolumeInput {
    /// Its name.
    volume: String,
    /// Where in the container; absolute.
    path: String,
    #[schema(default = false)]
    read_only: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct BindInput {
    /// A folder of the host; absolute.
    source: String,
    /// Where in the container; absolute.
    path: String,
    #[schema(default = false)]
    read_only: Option<bool>,
}

/// How the engine finds out whether the container does its work.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
pub struct HealthcheckInput {
    test: Option<TestInput>,
    /// Like `30s`; from 1 s to 24 h.
    interval: Option<String>,
    /// Like `5s`; from 1 s to 24 h.
    timeout: Option<String>,
    /// Like `1m`; from 0 to 24 h.
    start_period: Option<String>,
    #[schema(minimum = 1, maximum = 100)]
    retries: Option<u32>,
    /// The image's own check is not made either.
    #[schema(default = false)]
    disable: Option<bool>,
}

/// A line for the shell, or a command with its arguments, also in Docker's form (`["CMD", …]`).
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum TestInput {
    Line(String),
    Command(Vec<String>),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use utoipa::PartialSchema;

    use super::*;
    use crate::apps::spec::FIELDS;

    fn schema<T: PartialSchema>() -> Value {
        serde_json::to_value(T::schema()).expect("serialises")
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        for (schema, own) in
            [(schema::<AppInput>(), "name"), (schema::<AppPatch>(), "name"), (schema::<ContainerInput>(), "registry")]
        {
            assert_eq!(schema["additionalProperties"], false, "{own}");
            let told: BTreeSet<&str> = schema["properties"].as_object().expect("fields").keys().map(String::as_str).collect();
            let read: BTreeSet<&str> = FIELDS.iter().copied().chain([own]).collect();
            assert_eq!(told, read);
        }
        assert_eq!(schema::<AppInput>()["required"], serde_json::json!(["name"]));
        assert!(schema::<AppPatch>()["required"].is_null());
        for inner in
            [schema::<VolumeInput>(), schema::<BindInput>(), schema::<PublishedPortInput>(), schema::<HealthcheckInput>()]
        {
            assert_eq!(inner["additionalProperties"], false, "{inner}");
        }
    }
}
