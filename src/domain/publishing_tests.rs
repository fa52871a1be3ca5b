use super::super::{AttemptStart, ContextInfo, ErrorKind, NodeId, StageName, WorkerId};
use super::*;
use crate::domain::BuildSpec;

const NOW: Timestamp = Timestamp::from_millis(5);

fn pushing(images: &[&str]) -> BuildRecord {
    let images = images.iter().map(|image| image.parse().expect("valid")).collect();
    let spec = BuildSpec { images, push: true, timeout_ms: 1000, ..BuildSpec::default() };
    let owner = "ada".parse().expect("valid");
    let mut record = BuildRecord::new(BuildId::new(), owner, spec, ContextInfo::default(), None, NOW);
    let (worker, node) = (WorkerId::unique(), NodeId::new("n"));
    record.start_attempt(&worker, &node, 1, NOW).expect("queued");
    record.image_built(digest('a'), 1, &worker, NOW).expect("building");
    record
}

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().expect("valid")
}

fn refused(message: &str) -> BuildError {
    let (stage, kind) = (StageName::Push, ErrorKind::Registry);
    BuildError { stage, kind, code: "registry_error".into(), message: message.into(), dockerfile_line: None }
}

#[test]
fn an_error_names_which_of_several_destinations_failed() {
    let mut build = pushing(&["a.example/x:1", "b.example/x:1", "c.example/x:1"]);
    build.destinations[0].failed(refused("no"), NOW);
    build.destinations[1].pushed(digest('b'), NOW);
    build.destinations[2].failed(refused("never"), NOW);
    let PushEnd::Failed(error) = build.push_end() else { panic!("two of them failed") };
    assert_eq!(error.message, "a.example/x:1: no\nc.example/x:1: never");
    let mut alone = pushing(&["a.example/x:1"]);
    alone.destinations[0].failed(refused("no"), NOW);
    assert_eq!(alone.push_end(), PushEnd::Failed(refused("no")), "verbatim where there is but one");
}

#[test]
fn of_several_errors_the_one_counts_that_somebody_has_to_mend() {
    let denied = BuildError { kind: ErrorKind::Auth, code: "push_denied".into(), ..refused("never") };
    for order in [[0, 1], [1, 0]] {
        let mut build = pushing(&["a.example/x:1", "b.example/x:1"]);
        build.destinations[order[0]].failed(refused("no"), NOW);
        build.destinations[order[1]].failed(denied.clone(), NOW);
        let PushEnd::Failed(error) = build.push_end() else { panic!("both failed") };
        assert_eq!((error.kind, error.code), (ErrorKind::Auth, "push_denied".into()));
        assert_eq!(error.message.lines().count(), 2);
    }
}

#[test]
fn a_build_that_has_pushed_its_image_somewhere_makes_no_other() {
    let (worker, other) = (WorkerId::unique(), NodeId::new("other"));
    let mut build = pushing(&["a.example/x:1", "b.example/x:1"]);
    build.destinations[0].pushed(digest('b'), NOW);
    build.destinations[1].begin(NOW);
    build.requeued("its worker was lost").expect("at work");
    // On another node as well.
    assert_eq!(build.start_attempt(&worker, &other, 2, NOW), Ok(AttemptStart::Push));
    assert_eq!((&build.image_id, build.missing().count()), (&Some(digest('a')), 1));
    let before = build.clone();
    assert!(build.restart_build(&worker, NOW).is_err());
    assert_eq!(build, before);

    let mut nowhere = pushing(&["a.example/x:1"]);
    nowhere.requeued("its worker was lost").expect("at work");
    assert_eq!(nowhere.start_attempt(&worker, &other, 2, NOW), Ok(AttemptStart::Build));
}

#[test]
fn a_superseded_build_never_looks_published_and_one_of_several_tags_is_told() {
    let younger = BuildId::new();
    let mut build = pushing(&["a.example/x:1", "a.example/x:latest"]);
    build.destinations[1].superseded(Some(younger), NOW);
    build.destinations[0].pushed(digest('b'), NOW);
    assert_eq!(build.push_end(), PushEnd::Published);
    let mut partly = build.clone();
    partly.published(NOW).expect("from pushing");
    let told = format!("Docker Image is successfully pushed to a.example; a.example/x:latest was superseded by build {younger}");
    assert_eq!((partly.state, partly.message, partly.superseded_by), (BuildState::Published, told, None));

    build.destinations[0].superseded(None, NOW);
    assert_eq!(build.push_end(), PushEnd::Superseded(Some(younger)));
    build.superseded(Some(younger), NOW).expect("from pushing");
    assert_eq!((build.state, build.message.clone()), (BuildState::Cancelled, format!("Superseded by build {younger}")));
    assert!(!build.cancel_requested && build.published(NOW).is_err());
}

#[test]
fn a_retry_carries_over_what_is_pushed_until_it_has_to_build() {
    let mut first = pushing(&["a.example/x:1", "b.example/x:1"]);
    first.destinations[0].pushed(digest('b'), NOW);
    first.destinations[1].failed(refused("no"), NOW);
    first.failed(refused("no"), NOW).expect("from pushing");
    let fresh = || BuildRecord::new(BuildId::new(), first.owner.clone(), first.spec.clone(), ContextInfo::default(), None, NOW);
    let mut again = fresh();
    again.repeats(&first);
    assert_eq!((again.retry_of, &again.image_id), (Some(first.id), &first.image_id));
    assert_eq!(again.missing().map(|d| d.image.to_string()).collect::<Vec<_>>(), ["b.example/x:1"]);
    let mut elsewhere = again.clone();
    let start = elsewhere.start_attempt(&WorkerId::unique(), &NodeId::new("other"), 1, NOW).expect("queued");
    assert_eq!((start, elsewhere.missing().count()), (AttemptStart::Push, 1), "a registry has the image");
    elsewhere.restart_build(&WorkerId::unique(), NOW).expect("this build has pushed nothing itself");
    assert_eq!(elsewhere.missing().count(), 2, "another image is made, so that nothing is pushed of it");
    first.state = BuildState::Cancelled;
    let mut of_cancelled = fresh();
    of_cancelled.repeats(&first);
    assert_eq!(of_cancelled.image_id, None, "the image of a cancelled build went with its end");
}

#[test]
fn the_newest_joins_are_told() {
    let mut build = pushing(&["a.example/x:1"]);
    for at in (0_i64..).take(limits::JOINS + 3) {
        build.join(Timestamp::from_millis(at));
    }
    assert_eq!((build.joins.len(), build.joins[0]), (limits::JOINS, Timestamp::from_millis(3)));
}
