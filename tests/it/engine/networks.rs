//! Networks: their members reach each other by name, and nobody else.

use dockwright::engine::containers::{Containers, INSTALLATION, Networks};

use super::own::Own;
use crate::support::unique;

#[tokio::test]
async fn alone_members_meet_by_alias_and_strangers_do_not() {
    let (own, other) = (Own::new().await, Own::new().await);
    let (name, foreign) = (unique("n"), unique("n"));
    for _ in 0..2 {
        own.docker.create_network(&name, &own.labels()).await.expect("makes");
    }
    other.docker.create_network(&foreign, &other.labels()).await.expect("makes");
    let mut server = own.request(&["sh", "-c", "echo hello > /index.html; httpd -p 80 -h / && echo up; exec sleep 1000"]);
    server.network = Some(name.clone());
    server.aliases = vec!["web".into()];
    let server = own.start(server).await.expect("starts");
    let address = own.details(&server).await.addresses[&name].clone();
    let ask = |own: &Own, network: &str| {
        // With tools of the base image that need no C library's resolver.
        let script = format!(
            "exec 2>&1; nslookup web 127.0.0.11 | grep -o 'Address: .*'; printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80 | tail -n 1; echo end"
        );
        let mut request = own.request(&["sh", "-c", &script]);
        request.network = Some(network.to_owned());
        request
    };
    own.line(&server, "up").await;
    assert_eq!(own.says(ask(&own, &name)).await, [&format!("Address: {address}"), "hello", "end"]);
    let said = other.says(ask(&other, &foreign)).await;
    assert_eq!(said.last().map(String::as_str), Some("end"));
    assert!(!said.iter().any(|line| line.contains("Address") || line == "hello"), "{said:?}");

    let listed = own.docker.networks((INSTALLATION, &own.token)).await.expect("lists");
    let [one] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&one.name, &one.labels, &one.containers), (&name, &own.labels(), &vec![server.clone()]));
    let subnet: ipnet::IpNet = one.subnet.as_deref().expect("has one").parse().expect("a subnet");
    assert!(subnet.contains(&address.parse::<std::net::IpAddr>().expect("an address")), "{subnet} {address}");

    let error = own.docker.remove_network(&name).await.expect_err("is used");
    assert_eq!(error.code, "network_in_use", "{error:?}");
    own.docker.remove(&server, true).await.expect("goes");
    assert!(own.docker.remove_network(&name).await.expect("goes"));
    assert!(!own.docker.remove_network(&name).await.expect("is no error"));
    let error = own.docker.create_network(&foreign, &own.labels()).await.expect_err("is another's");
    assert_eq!(error.code, "name_taken", "{error:?}");
}

/// Each client is a service of its own to the others.
#[tokio::test]
async fn many_who_make_the_same_make_one() {
    let own = Own::new().await;
    let name = unique("n");
    for _ in 0..5 {
        let clients: Vec<_> = (0..6).map(|_| super::docker()).collect();
        let labels = own.labels();
        let made = futures::future::join_all(clients.iter().map(|client| client.create_network(&name, &labels))).await;
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let listed = own.docker.networks((INSTALLATION, &own.token)).await.expect("lists");
        assert_eq!(listed.len(), 1, "{listed:?}");
        let removed = futures::future::join_all(clients.iter().map(|client| client.remove_network(&name))).await;
        assert!(removed.iter().all(Result::is_ok), "{removed:?}");
        assert!(removed.iter().any(|one| matches!(one, Ok(true))), "{removed:?}");
        assert_eq!(own.docker.networks((INSTALLATION, &own.token)).await.expect("lists"), []);
    }
}
