//! What becomes of an owner's things when the account goes.

use super::Apps;
use super::app::removal;
use crate::domain::{App, Network, ObjectName, Owner, PulledImage, Run, Scope, Volume};
use crate::error::{Error, Result};
use crate::fleet::own_id;
use crate::store::StoreError;
use crate::store::objects::{Expect, Kind, Object, Write};

/// How much somebody owns, or owned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owned {
    pub apps: u64,
    pub runs: u64,
    pub volumes: u64,
}

impl Owned {
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Apps {
    /// What an owner has.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn owned(&self, owner: &Owner) -> Result<Owned> {
        let scope = Scope::Owner(owner.clone());
        let store = self.store();
        Ok(Owned {
            apps: store.all_objects::<App>(&scope, Kind::App).await?.len() as u64,
            runs: store.all_objects::<Run>(&scope, Kind::Run).await?.len() as u64,
            volumes: store.all_objects::<Volume>(&scope, Kind::Volume).await?.len() as u64,
        })
    }

    /// Removes everything of an owner, or with an heir hands over apps, volumes and images; containers and their history go in any
    /// case, for they bear their owner's name and run in its network. Can be repeated after a failure, and then goes on.
    ///
    /// # Errors
    /// When the engine or the store is away; [`Error::Conflict`] `name_taken` when the heir has things of the same names.
    pub async fn settle(&self, owner: &Owner, heir: Option<&Owner>) -> Result<Owned> {
        let scope = Scope::Owner(owner.clone());
        let mut settled = Owned::default();
        for run in self.store().all_objects::<Run>(&scope, Kind::Run).await? {
            self.take_out(run.body).await?;
            settled.runs += 1;
        }
        for app in self.store().all_objects::<App>(&scope, Kind::App).await? {
            self.settle_app(app, heir).await?;
            settled.apps += 1;
        }
        for volume in self.store().all_objects::<Volume>(&scope, Kind::Volume).await? {
            self.settle_volume(volume.body, heir).await?;
            settled.volumes += 1;
        }
        for network in self.store().all_objects::<Network>(&scope, Kind::Network).await? {
            self.fleet.engine().remove_network(&network.body.engine_name).await?;
            self.store().commit(&[Write::remove(Kind::Network, network.id, Expect::Anything)]).await?;
        }
        for image in self.store().all_objects::<PulledImage>(&scope, Kind::Image).await? {
            self.settle_image(image.body, heir).await?;
        }
        self.store().commit(&[Write::remove(Kind::Holdings, owner.as_str(), Expect::Anything)]).await?;
        Ok(settled)
    }

    async fn settle_app(&self, seen: Object<App>, heir: Option<&Owner>) -> Result<()> {
        let Some(heir) = heir else {
            return Ok(self.store().commit(&removal(&seen)).await?);
        };
        let Object { body: app, revision, .. } = seen;
        let name = Write::remove(Kind::AppName, own_id(&app.owner, &app.name), Expect::Anything);
        let secrets = self.open_env(&App::purpose(&app.owner, app.id), app.sealed_env.as_deref())?;
        let sealed_env = self.seal_env(&App::purpose(heir, app.id), &secrets);
        for as_name in names(&app.name, &app.owner) {
            let moved = App { owner: heir.clone(), name: as_name.clone(), sealed_env: sealed_env.clone(), ..app.clone() };
            let writes = [
                name.clone(),
                Write::put(Kind::AppName, own_id(heir, &as_name), heir, Expect::Absent, &app.id),
                Write::put(Kind::App, app.id.to_string(), heir, Expect::Revision(revision), &moved),
            ];
            match self.store().commit(&writes).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(taken("apps", &app.name, heir))
    }

    async fn settle_volume(&self, volume: Volume, heir: Option<&Owner>) -> Result<()> {
        let gone = Write::remove(Kind::Volume, own_id(&volume.owner, &volume.name), Expect::Anything);
        let Some(heir) = heir else {
            self.fleet.engine().remove_volume(&volume.engine_name).await?;
            return Ok(self.store().commit(&[gone]).await?);
        };
        for name in names(&volume.name, &volume.owner) {
            let moved = Volume { owner: heir.clone(), name: name.clone(), ..volume.clone() };
            let put = Write::put(Kind::Volume, own_id(heir, &name), heir, Expect::Absent, &moved);
            match self.store().commit(&[gone.clone(), put]).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
        Err(taken("volumes", &volume.name, heir))
    }

    async fn settle_image(&self, image: PulledImage, heir: Option<&Owner>) -> Result<()> {
        let gone = Write::remove(Kind::Image, PulledImage::id(&image.owner, &image.reference), Expect::Anything);
        let mut writes = vec![gone];
        if let Some(heir) = heir {
            let moved = PulledImage { owner: heir.clone(), ..image.clone() };
            let id = PulledImage::id(heir, &image.reference);
            writes.push(Write::put(Kind::Image, id, heir, Expect::Anything, &moved).under(image.image_id.as_str()));
        }
        Ok(self.store().commit(&writes).await?)
    }
}

/// The name, and one that tells whose it was for when the heir has one of that name.
fn names(name: &ObjectName, owner: &Owner) -> impl Iterator<Item = ObjectName> {
    let plain: String = owner.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let second = format!("{name}-{}", plain.trim_end_matches('-')).parse().ok();
    std::iter::once(name.clone()).chain(second)
}

fn taken(what: &str, name: &ObjectName, heir: &Owner) -> Error {
    Error::Conflict { code: "name_taken", detail: format!("{heir} has {what} named {name} and after its owner already") }
}
