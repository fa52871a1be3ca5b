//! `dockwright webhook`.

use serde_json::Value;

use super::person::Person;
use crate::hooks::idle;
use crate::hooks::receiver::Receiver;
use crate::pipeline::on_both_stores;
use crate::support::service::Backend;

on_both_stores!(a_webhook_from_its_making_to_its_removal);

async fn a_webhook_from_its_making_to_its_removal(backend: Backend) {
    let service = idle(backend).await;
    let receiver = Receiver::willing().await;
    let person = Person::of(&service, &service.token);
    let made = person.run(&format!("webhook create {} --event build.failed --project shop", receiver.url())).well();
    let secret = made.out.trim();
    assert!(secret.starts_with("whsec_") && secret.len() == 70, "the secret alone can be kept in a file: {secret}");
    let webhook = person.run("webhook ls --json").json()[0].clone();
    let id = webhook["id"].as_str().expect("an id").to_owned();
    assert_eq!((&webhook["events"], &webhook["project"]), (&serde_json::json!(["build.failed"]), &"shop".into()));
    let shown = person.shows("webhook ls");
    assert!(shown.contains(&receiver.url()) && !shown.contains(secret), "{shown}");

    let delivery = person.run(&format!("webhook test {id} --json")).json()["id"].as_str().expect("an id").to_owned();
    assert!(receiver.hears(1).await[0].is_signed_with(secret));
    person.run(&format!("webhook redeliver {id} {delivery}")).well();
    assert_eq!(receiver.hears(2).await[1].header("dockwright-redelivery-of"), Some(&*delivery));
    let list: Value = person.run(&format!("webhook deliveries {id} --json")).json();
    assert_eq!((list.as_array().map(Vec::len), &list[1]["id"]), (Some(2), &delivery.as_str().into()));
    let shown = person.run(&format!("webhook deliveries {id}")).well().out;
    assert!(shown.starts_with("ID") && shown.contains(&delivery), "{shown}");

    person.run("webhook create http://169.254.169.254/").refused("requests of users do not go");
    person.run(&format!("webhook redeliver {id} ../test")).refused("is no name");
    let given = person.say("0123456789abcdef\n", &format!("webhook create {} --secret-stdin", receiver.url())).well();
    assert_eq!(given.out, "", "who has named it knows it");
    person.run(&format!("webhook rm {id}")).well();
    person.run(&format!("webhook test {id}")).refused("not_found");
}
