//! The composition root: the only place that names every concrete part.

mod folder;
mod rules;

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::apps::Apps;
use crate::audit::Audit;
use crate::auth::{Authenticator, FirstAdmin, ensure_admin, ensure_installation};
use crate::builds::Builds;
use crate::config::{Config, StoreUrl};
use crate::context::storage::ContextStorage;
use crate::engine::docker::Docker;
use crate::engine::{ContainerEngine, Ledger};
use crate::fleet::{Fleet, FleetSettings};
use crate::hooks::{Dispatcher, HookSettings, Hooks};
use crate::http::{App, Guard, ServerLimits};
use crate::janitor::{Janitor, NodeParts, OrphanAges, Tidy, TidyNode};
use crate::registry::{Publisher, PushPolicy, RegistryClient, Timeouts};
use crate::store::Store;
use crate::store::redis::RedisStore;
use crate::store::sqlite::SqliteStore;
use crate::vault::Vault;
use crate::worker::{Parts, Worker, WorkerSettings};
use crate::{fleet, http, janitor};

pub use folder::check_folder;
use folder::{claim_folder, make_private};
use rules::Registries;
pub use rules::{egress, policy, spec_rules};

/// The service, put together and not yet running.
pub struct Service {
    config: Config,
    store: Store,
    contexts: ContextStorage,
    vault: Arc<Vault>,
    engine: Arc<Docker>,
    registry: Arc<RegistryClient>,
    installation: String,
    publisher: Publisher<dyn ContainerEngine>,
    /// What the first start made.
    pub admin: FirstAdmin,
}

/// What can be done with builds and containers.
pub struct UseCases {
    pub builds: Arc<Builds>,
    pub fleet: Fleet,
    pub apps: Arc<Apps>,
}

/// How long an end waits for the audit's last entries.
const AUDIT_FLUSH: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a container has to end when it is asked to (Docker's own default).
const GRACE: std::time::Duration = std::time::Duration::from_secs(10);
/// Between two tries to end the terminals that were left.
const LEFT_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// The file of the embedded store, in the data folder.
const DATABASE: &str = "dockwright.db";

/// Where the embedded store is, or would be.
#[must_use]
pub fn database(config: &Config) -> std::path::PathBuf {
    config.data_dir.join(DATABASE)
}

/// Opens the store that the settings name.
///
/// # Errors
/// When it cannot be opened.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    Ok(match &config.store {
        StoreUrl::Sqlite => Store::Sqlite(SqliteStore::open(&database(config))?),
        StoreUrl::Redis(url) => Store::Redis(RedisStore::connect(url, &config.store_prefix)?),
    })
}

/// The key that seals credentials.
///
/// # Errors
/// When it cannot be read or made.
pub fn open_vault(config: &Config) -> anyhow::Result<Vault> {
    match &config.key {
        Some(key) => Vault::from_base64(key).context("key"),
        None => Vault::from_file(&config.key_file),
    }
}

/// One for all that this process pushes: inside of it, pushes wait for each other here.
fn publisher(
    config: &Config,
    engine: &Arc<Docker>,
    registry: &Arc<RegistryClient>,
    installation: &str,
) -> Publisher<dyn ContainerEngine> {
    let engine: Arc<dyn ContainerEngine> = engine.clone();
    let policy = PushPolicy { silence: config.push_stall.0, ..PushPolicy::default() };
    Publisher::new(engine, Arc::clone(registry), policy, installation)
}

impl Service {
    /// # Errors
    /// When a part of it cannot be opened. An engine that is away is no error: accepted builds wait for it.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        make_private(&config.data_dir).with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
        check_folder(&config)?;
        let store = open_store(&config).await.context("cannot open the store")?;
        claim_folder(&config)?;
        for warning in store.warnings().await.unwrap_or_default() {
            tracing::warn!("{warning}");
        }
        let contexts = ContextStorage::open(&config.data_dir, config.min_free_disk.0)
            .map_err(|e| anyhow::anyhow!("cannot open the data folder: {e:?}"))?;
        let vault = Arc::new(open_vault(&config)?);
        let engine = Docker::connect(config.engine.as_deref())?;
        let engine = Arc::new(engine.with_marks_in(config.data_dir.join("terminals")).context("cannot open the data folder")?);
        let admin = ensure_admin(&store, &config.data_dir).await?;
        let installation = ensure_installation(&store).await?;
        // A registry that hangs is given up as early when it is asked as when it is pushed to.
        let usual = Timeouts::default();
        let timeouts =
            Timeouts { connect: usual.connect.min(config.push_stall.0), request: usual.request.min(config.push_stall.0) };
        let registry = Arc::new(RegistryClient::new(timeouts, rules::registry_egress(&config)));
        let publisher = publisher(&config, &engine, &registry, &installation);
        Ok(Self { config, store, contexts, vault, engine, registry, installation, publisher, admin })
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What marks as ours whatever we make on an engine: the same for all processes that share a store, and for no others.
    #[must_use]
    pub fn installation(&self) -> &str {
        &self.installation
    }

    /// Reads the certificate anew at each start.
    fn tls(&self) -> anyhow::Result<http::Tls> {
        let (Some(cert), Some(key)) = (&self.config.tls_cert, &self.config.tls_key) else { return Ok(None) };
        http::tls(cert, key).map(Some)
    }

    /// The use-cases, over the parts of this service.
    #[must_use]
    pub fn use_cases(&self) -> UseCases {
        let builds = self.builds();
        let fleet = self.fleet(&builds);
        let apps = Arc::new(Apps::new(fleet.clone(), spec_rules(&self.config), self.config.terminal_keep.0));
        UseCases { builds, fleet, apps }
    }

    fn builds(&self) -> Arc<Builds> {
        let remote = Arc::new(Registries(Arc::clone(&self.registry), Arc::clone(&self.engine)));
        Arc::new(Builds::new(self.store.clone(), self.contexts.clone(), Arc::clone(&self.vault), remote, policy(&self.config)))
    }

    fn fleet(&self, builds: &Arc<Builds>) -> Fleet {
        let c = &self.config;
        let rules = spec_rules(c);
        let settings = FleetSettings {
            publish_address: c.publish_address,
            host_ports: rules.host_ports,
            bind_roots: rules.bind_roots,
            forbidden_sources: rules.forbidden_sources,
            grace: GRACE,
            pull_silence: c.push_stall.0,
            keep_runs: c.keep_runs,
            installation: self.installation.clone(),
        };
        Fleet::new(
            Arc::clone(&self.engine) as _,
            Arc::clone(&self.registry) as _,
            Arc::new(self.publisher.clone()),
            Arc::clone(&self.vault),
            Arc::clone(builds),
            settings,
        )
    }

    fn app(&self, builds: Arc<Builds>, apps: Arc<Apps>, stop: &CancellationToken) -> App {
        let c = &self.config;
        let accounts = Accounts::new(
            self.store.clone(),
            Arc::clone(&self.vault),
            Arc::clone(&builds),
            Arc::clone(&apps),
            Arc::clone(&self.registry),
            Audit::start(self.store.clone(), Arc::clone(&self.vault)),
        );
        let guard = Guard {
            trusted_proxies: c.trusted_proxies.iter().map(|network| network.0).collect(),
            public_hosts: c.public_hosts.clone(),
            tls: c.tls_cert.is_some(),
        };
        App {
            builds,
            apps,
            auth: Arc::new(Authenticator::new(self.store.clone())),
            accounts: Arc::new(accounts),
            hooks: Arc::new(Hooks::new(self.store.clone(), Arc::clone(&self.vault), egress(c))),
            guard: Arc::new(guard),
            stop: stop.clone(),
            streams: http::Streams::default(),
        }
    }

    fn tidy(&self, builds: &Arc<Builds>, ledger: &Ledger) -> Arc<Tidy> {
        let engine = || Arc::clone(&self.engine) as Arc<dyn ContainerEngine>;
        let node = self.config.role.works().then(|| TidyNode { ledger: ledger.clone(), engine: engine() });
        Arc::new(Tidy::new(Arc::clone(builds), node, self.config.disk_high, self.config.disk_low))
    }

    fn dispatcher(&self) -> Arc<Dispatcher> {
        let c = &self.config;
        let settings = HookSettings { first_retry: c.webhook_retry.0, disable_after: c.webhook_disable_after.0 };
        let (store, vault) = (self.store.clone(), Arc::clone(&self.vault));
        Dispatcher::new(store, vault, egress(c), Arc::new(http::build_json), settings)
    }

    fn worker(&self, ledger: &Ledger) -> Arc<Worker> {
        let c = &self.config;
        Worker::new(Parts {
            store: self.store.clone(),
            contexts: self.contexts.clone(),
            vault: Arc::clone(&self.vault),
            engine: Arc::clone(&self.engine) as Arc<dyn ContainerEngine>,
            publisher: self.publisher.clone(),
            registry: Arc::clone(&self.registry),
            ledger: ledger.clone(),
            settings: WorkerSettings {
                slots: c.workers,
                lease: c.lease.0,
                drain: c.drain.0,
                max_log: c.max_log.0,
                host_credentials: c.host_credentials,
                installation: self.installation.clone(),
            },
        })
    }

    /// Runs the parts of the configured role until `stop`, then drains. Without a listener nothing is served.
    ///
    /// # Errors
    /// When a part cannot be started.
    pub async fn run(self, listener: Option<TcpListener>, stop: CancellationToken) -> anyhow::Result<()> {
        let tasks = TaskTracker::new();
        let ledger = Ledger::open(self.config.data_dir.join("ledger")).context("cannot open the ledger")?;
        let UseCases { builds, fleet, apps } = self.use_cases();
        let mut audit = None;
        if let Some(listener) = listener {
            let app = self.app(builds, apps, &stop);
            audit = Some(app.accounts.audit.clone());
            tasks.spawn(end_left_terminals(Arc::clone(&self.engine), stop.clone()));
            tasks.spawn(Arc::clone(&app.apps).keep_terminals(stop.clone()));
            tasks.spawn(http::serve(listener, http::router(app), ServerLimits::default(), self.tls()?, stop.clone()));
        }
        let node = self.config.role.works().then(|| NodeParts {
            ledger: ledger.clone(),
            images: Arc::clone(&self.engine) as _,
            fleet: fleet.clone(),
        });
        tasks.spawn(janitor::tidy(self.tidy(fleet.builds(), &ledger), stop.clone()));
        let cleaner = Janitor {
            store: self.store.clone(),
            contexts: self.contexts.clone(),
            keep_hot_log: self.config.keep_hot_log.0,
            vault: Arc::clone(&self.vault),
            ages: OrphanAges { blobs: self.config.keep_blobs.0, ..OrphanAges::default() },
            node,
        };
        tasks.spawn(janitor::run(Arc::new(cleaner), stop.clone()));
        tasks.spawn(self.dispatcher().run(stop.clone()));
        tasks.spawn(fleet::keep(fleet, self.config.role.works(), stop.clone()));
        if self.config.role.works() {
            tasks.spawn(self.worker(&ledger).run(stop.clone()));
        }
        tasks.close();
        tasks.wait().await;
        if let Some(audit) = audit {
            // A store that is away must not keep the process.
            let _ = tokio::time::timeout(AUDIT_FLUSH, audit.flush()).await;
        }
        Ok(())
    }
}

/// What a service before this one has left, as soon as the engine is there.
async fn end_left_terminals(engine: Arc<Docker>, stop: CancellationToken) {
    while let Err(error) = engine.end_left().await {
        tracing::debug!(%error, "the processes of terminals that were left are not ended yet");
        tokio::select! { () = tokio::time::sleep(LEFT_AGAIN) => {} () = stop.cancelled() => return }
    }
}
