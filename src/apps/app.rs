//! Apps: described once, run many times.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Apps, spec};
use crate::auth::Principal;
use crate::domain::{
    App, AppId, BuildId, ContainerSpec, ImageSource, ObjectName, Owner, Run, RunId, Scope, SecretEnv, Timestamp, limits,
};
use crate::error::{Error, Result};
use crate::fleet::own_id;
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// How often the removal of an app is tried that others change meanwhile.
const TRIES: usize = 20;

/// An app as it is asked for: its name, and the rest, which the validator reads.
pub struct NamedApp {
    /// What is wrong with it is told along with the faults of the rest.
    pub name: Result<Option<ObjectName>>,
    pub fields: Map<String, Value>,
}

impl NamedApp {
    /// Takes the name out of a JSON object.
    #[must_use]
    pub fn of(mut fields: Map<String, Value>) -> Self {
        let wrong = |why: String| Error::invalid("invalid_spec", "name", why);
        let name = match fields.remove("name") {
            None => Ok(None),
            Some(Value::String(name)) => name.parse().map(Some).map_err(wrong),
            Some(_) => Err(wrong("must be a text".into())),
        };
        Self { name, fields }
    }
}

/// What an app does now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppState {
    /// Runs that are not over.
    pub live: Vec<RunId>,
    /// Whether one of them was made before the last change.
    pub restart_needed: bool,
    /// The fields in which one of them differs from what it would be now.
    pub restart_fields: Vec<&'static str>,
    /// The newest run.
    pub last: Option<RunId>,
}

/// How the validator reads a description beside the one that stands.
type Reading = fn(&ContainerSpec, &Map<String, Value>, &spec::SpecRules, spec::Rights) -> Result<(ContainerSpec, SecretEnv)>;

impl Apps {
    /// Makes an app with this id. One that has it already is the answer: it was asked for before, and its answer was lost.
    ///
    /// # Errors
    /// Bad input; [`Error::Conflict`] `name_taken`.
    pub async fn make_app(&self, caller: &Principal, id: AppId, input: NamedApp) -> Result<App> {
        let name = input.name.and_then(|name| name.ok_or_else(|| Error::invalid("invalid_spec", "name", "is missing")));
        let (name, (spec, secrets)) = Error::together(name, self.read_spec(caller, &input.fields).await)?;
        let now = Timestamp::now();
        let app = App {
            id,
            owner: caller.owner.clone(),
            sealed_env: self.seal_env(&App::purpose(&caller.owner, id), &secrets),
            name,
            spec,
            generation: 1,
            created_at: now,
            updated_at: now,
        };
        let writes = [
            Write::put(Kind::AppName, own_id(&app.owner, &app.name), &app.owner, Expect::Absent, &app.id),
            Write::put(Kind::App, app.id.to_string(), &app.owner, Expect::Absent, &app),
        ];
        match self.store().commit(&writes).await {
            Ok(()) => Ok(app),
            Err(error) => {
                let made = self.store().object::<App>(&Scope::Owner(app.owner.clone()), Kind::App, &id.to_string()).await?;
                made.map(|made| made.body).ok_or_else(|| taken(error, &app.name))
            }
        }
    }

    /// Reads a container that is new, and finds its build.
    pub(super) async fn read_spec(&self, caller: &Principal, fields: &Map<String, Value>) -> Result<(ContainerSpec, SecretEnv)> {
        let read = spec::read(fields, &self.rules, Self::rights(caller));
        Ok(Error::together(read, self.check_build(&caller.owner, fields, None).await)?.0)
    }

    /// A build that is named must be the owner's, also when something else is wrong; one that was named `before` may have gone.
    async fn check_build(&self, owner: &Owner, fields: &Map<String, Value>, before: Option<&ImageSource>) -> Result<()> {
        let named = fields.get("build").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let Some(id) = named.filter(|id| before != Some(&ImageSource::Build(*id))) else { return Ok(()) };
        match self.store().get(&Scope::Owner(owner.clone()), id).await? {
            Some(_) => Ok(()),
            None => Err(Error::invalid("invalid_spec", "build", no_build(id))),
        }
    }

    /// One app, by its id or by its name among an owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what is somebody else's.
    pub async fn app(&self, caller: &Principal, key: &str, owner: Option<&Owner>) -> Result<Object<App>> {
        let id = match key.parse::<AppId>() {
            Ok(id) => id,
            Err(_) => self.app_named(caller, key, owner).await?,
        };
        let found = self.store().object(&caller.scope(), Kind::App, &id.to_string()).await?;
        found.ok_or(Error::NotFound("app"))
    }

    async fn app_named(&self, caller: &Principal, name: &str, owner: Option<&Owner>) -> Result<AppId> {
        let name: ObjectName = name.parse().map_err(|_| Error::NotFound("app"))?;
        let owner = Self::named_scope(caller, owner)?;
        let id = own_id(&owner, &name);
        let found: Option<Object<AppId>> = self.store().object(&Scope::Owner(owner), Kind::AppName, &id).await?;
        Ok(found.ok_or(Error::NotFound("app"))?.body)
    }

    /// Apps, newest first, and whether there are older ones.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn apps(
        &self,
        caller: &Principal,
        owner: Option<Owner>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Object<App>>, bool)> {
        let query = ObjectQuery { scope: caller.scope(), kind: Kind::App, owner, parent: None, before, limit };
        Ok(self.store().objects(&query).await?)
    }

    /// What an app does now.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn app_state(&self, app: &App) -> Result<AppState> {
        let live = self.fleet.records().live_of(app).await?;
        let (newest, _) = self.runs_of(app, None, 1).await?;
        let old: Vec<RunId> =
            live.iter().filter(|(_, generation)| *generation != Some(app.generation)).map(|(id, _)| *id).collect();
        Ok(AppState {
            restart_needed: !old.is_empty(),
            restart_fields: self.differences(app, &old).await?,
            live: live.into_iter().map(|(id, _)| id).collect(),
            last: newest.first().map(|run| run.body.id),
        })
    }

    /// The fields in which runs of an app are not as it is now.
    async fn differences(&self, app: &App, runs: &[RunId]) -> Result<Vec<&'static str>> {
        let mut differ = BTreeSet::new();
        for id in runs {
            let Some(run) = self.fleet.records().run(&Scope::All, *id).await? else { continue };
            let run = run.body;
            if run.app.as_ref().is_some_and(|of| of.name != app.name) {
                differ.insert("name");
            }
            differ.extend(spec::needs_restart(&run.spec, &app.spec, &self.other_secrets(app, &run)));
        }
        Ok(["name"].iter().chain(spec::FIELDS).copied().filter(|field| differ.contains(field)).collect())
    }

    /// An app's secrets, when a run has others.
    fn other_secrets(&self, app: &App, run: &Run) -> SecretEnv {
        let of_app = self.open_env(&App::purpose(&app.owner, app.id), app.sealed_env.as_deref());
        let of_run = self.open_env(&Run::purpose(&run.owner, run.id), run.sealed_env.as_deref());
        match (of_app, of_run) {
            (Ok(now), Ok(then)) if now.to_json() != then.to_json() => now,
            // What cannot be opened is told when it is needed.
            _ => SecretEnv::default(),
        }
    }

    /// An app's runs, newest first.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn runs_of(&self, app: &App, before: Option<u64>, limit: usize) -> Result<(Vec<Object<Run>>, bool)> {
        let scope = Scope::Owner(app.owner.clone());
        let query = ObjectQuery { scope, kind: Kind::Run, owner: None, parent: Some(app.id.to_string()), before, limit };
        Ok(self.store().objects(&query).await?)
    }

    /// Puts another description in an app's place; secret variables given as `{"secret": true}` keep their values.
    ///
    /// # Errors
    /// As [`Apps::make_app`].
    pub async fn replace_app(&self, caller: &Principal, app: Object<App>, input: NamedApp) -> Result<App> {
        self.change_app(caller, app, input, spec::replace).await
    }

    /// Changes some fields of an app (RFC 7396).
    ///
    /// # Errors
    /// As [`Apps::make_app`].
    pub async fn patch_app(&self, caller: &Principal, app: Object<App>, input: NamedApp) -> Result<App> {
        self.change_app(caller, app, input, spec::patch).await
    }

    async fn change_app(&self, caller: &Principal, current: Object<App>, input: NamedApp, read: Reading) -> Result<App> {
        let (before, revision) = (current.body, current.revision);
        let read = read(&before.spec, &input.fields, &self.rules, Self::rights(caller));
        let build = self.check_build(&before.owner, &input.fields, Some(&before.spec.image)).await;
        let (name, ((spec, fresh), ())) = Error::together(input.name, Error::together(read, build))?;
        let name = name.unwrap_or_else(|| before.name.clone());
        let purpose = App::purpose(&before.owner, before.id);
        let new_values = !fresh.is_empty();
        let secrets = fresh.completed(&spec, &self.open_env(&purpose, before.sealed_env.as_deref())?);
        let moved = name != before.name || spec != before.spec || new_values;
        if !moved {
            return Ok(before);
        }
        let sealed_env = self.seal_env(&purpose, &secrets);
        let app =
            App { name, spec, sealed_env, generation: before.generation + 1, updated_at: Timestamp::now(), ..before.clone() };
        let mut writes = vec![Write::put(Kind::App, app.id.to_string(), &app.owner, Expect::Revision(revision), &app)];
        if app.name != before.name {
            writes.push(Write::remove(Kind::AppName, own_id(&app.owner, &before.name), Expect::Anything));
            writes.push(Write::put(Kind::AppName, own_id(&app.owner, &app.name), &app.owner, Expect::Absent, &app.id));
        }
        self.store().commit(&writes).await.map_err(|error| taken(error, &app.name))?;
        Ok(app)
    }

    /// Removes an app with its history and containers.
    ///
    /// # Errors
    /// [`Error::Conflict`] `app_runs` while something of it runs, unless by force.
    pub async fn remove_app(&self, caller: &Principal, key: &str, owner: Option<&Owner>, force: bool) -> Result<App> {
        let mut found = self.app(caller, key, owner).await?;
        let id = found.body.id.to_string();
        for _ in 0..TRIES {
            let live = self.fleet.records().live_of(&found.body).await?.len();
            if live > 0 && !force {
                let detail = format!("{live} runs of {} are not over; stop them, or say ?force=true", found.body.name);
                return Err(Error::Conflict { code: "app_runs", detail });
            }
            // Before its runs, so that it starts nothing more.
            match self.store().commit(&removal(&found)).await {
                // It was changed meanwhile, and may have another name.
                Err(StoreError::Conflict) => found = self.app(caller, &id, None).await?,
                Err(error) => return Err(error.into()),
                Ok(()) => return self.remove_runs(found.body).await,
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn remove_runs(&self, app: App) -> Result<App> {
        loop {
            let (runs, _) = self.runs_of(&app, None, limits::PAGE).await?;
            if runs.is_empty() {
                return Ok(app);
            }
            for run in runs {
                self.take_out(run.body).await?;
            }
        }
    }
}

/// Takes away an app as it was seen: the name that it had then may be another one's now, if it was changed.
pub(super) fn removal(seen: &Object<App>) -> [Write; 2] {
    let app = &seen.body;
    [
        Write::remove(Kind::App, app.id.to_string(), Expect::Revision(seen.revision)),
        Write::remove(Kind::AppName, own_id(&app.owner, &app.name), Expect::Anything),
    ]
}

fn taken(error: StoreError, name: &ObjectName) -> Error {
    match error {
        StoreError::Conflict => {
            Error::Conflict { code: "name_taken", detail: format!("there is an app {name} already, or it was changed meanwhile") }
        }
        other => other.into(),
    }
}

fn no_build(id: BuildId) -> String {
    format!("there is no build {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::sqlite::SqliteStore;

    fn app(name: &str) -> App {
        let fields = serde_json::json!({"image": "busybox"});
        let read = spec::read(fields.as_object().expect("an object"), &spec::SpecRules::default(), spec::Rights::User);
        let now = Timestamp::now();
        App {
            id: AppId::new(),
            owner: "ada".parse().expect("a name"),
            name: name.parse().expect("a name"),
            spec: read.expect("a spec").0,
            sealed_env: None,
            generation: 1,
            created_at: now,
            updated_at: now,
        }
    }

    fn puts(app: &App, expect: Expect) -> [Write; 2] {
        [
            Write::put(Kind::AppName, own_id(&app.owner, &app.name), &app.owner, Expect::Absent, &app.id),
            Write::put(Kind::App, app.id.to_string(), &app.owner, expect, app),
        ]
    }

    #[tokio::test]
    async fn a_name_that_went_to_another_app_stays_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::Sqlite(SqliteStore::open(&folder.path().join("db")).expect("opens"));
        let old = app("one");
        store.commit(&puts(&old, Expect::Absent)).await.expect("made");
        let seen: Object<App> = store.object(&Scope::All, Kind::App, &old.id.to_string()).await.expect("answers").expect("there");
        // Meanwhile it gets another name, and its own goes to a new app.
        let renamed = App { name: "two".parse().expect("a name"), ..old.clone() };
        let mut writes = puts(&renamed, Expect::Revision(seen.revision)).to_vec();
        writes.push(Write::remove(Kind::AppName, own_id(&old.owner, &old.name), Expect::Anything));
        store.commit(&writes).await.expect("renamed");
        let new = app("one");
        store.commit(&puts(&new, Expect::Absent)).await.expect("made");
        assert!(matches!(store.commit(&removal(&seen)).await, Err(StoreError::Conflict)), "it is not as it was seen");
        let named: Option<Object<AppId>> =
            store.object(&Scope::All, Kind::AppName, &own_id(&new.owner, &new.name)).await.expect("answers");
        assert_eq!(named.map(|object| object.body), Some(new.id));
    }
}
