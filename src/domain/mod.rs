//! The vocabulary of the service: pure values and rules, no input or output.
//!
//! Everything else in the crate speaks in these types; `tests/architecture.rs` checks that this
//! folder depends on nothing of ours.

mod account;
mod app;
mod base;
mod build;
mod build_state;
pub mod confines;
mod container;
mod credentials;
mod entrusted;
mod event;
mod id;
mod image;
pub mod limits;
mod owner;
mod permission;
mod publishing;
pub mod quantity;
mod quota;
mod retention;
mod secret_env;
mod spec;
mod stage;
mod step;
mod time;
mod upload;
mod webhook;

pub use account::{PasswordHash, Proof, Replay, Session, StoredRegistry, Token, TokenId, User};
pub use app::{
    App, Ended, Holding, Holdings, Network, PulledImage, Run, RunError, RunLog, RunNote, RunOfApp, RunState, SavedLine, Volume,
};
pub use base::{Base, Known};
pub use build::{AttemptStart, BuildRecord, IllegalTransition, Lapse, MAX_CRASHES};
pub use build_state::BuildState;
pub use container::{
    AdminOnly, Bind, ContainerSpec, EnvValue, Healthcheck, ImageSource, NetworkChoice, ObjectName, Port, Protocol,
    RESERVED_LABELS, RestartPolicy, RunImage, VolumeMount,
};
pub use credentials::{Credentials, REDACTED};
pub use entrusted::{BuildSecret, Entrusted};
pub use event::{Event, EventBody, LogLine, LogStream};
pub use id::{AccountId, AppId, BuildId, DeliveryId, Digest, Fence, InvalidId, ManifestId, NodeId, RunId, WebhookId, WorkerId};
pub use image::{ImageRef, InvalidImageRef, LOCAL_HOST, PUSHING, build_of_tag, is_pushing, local_tag};
pub use owner::{InvalidOwner, Owner, Role, Scope};
pub use permission::{ImagePattern, Permission, Permissions};
pub use publishing::{Landed, PushEnd};
pub use quota::{Quota, Usage};
pub use retention::{Cleaned, InUse, RetentionRule, RetentionRules};
pub use secret_env::{InvalidSecretEnv, SecretEnv};
pub use spec::{BuildSpec, BuilderKind, NetworkMode, Priority};
pub use stage::{BuildError, Destination, DestinationState, ErrorKind, Stage, StageName, StageState, Transfer};
pub use step::{BUILDING_AGAIN, Layer, Step, StepState, Steps};
pub use time::Timestamp;
pub use upload::{ContextInfo, ContextKind, ContextWarning, GitInfo, LegacyUpload, PathBytes};
pub use webhook::{Attempt, Delivery, DeliveryState, DueDelivery, HookEvent, Webhook};
