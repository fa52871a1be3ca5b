use super::*;
use crate::domain::{ContextKind, StepState};

fn record(push: bool) -> BuildRecord {
    let spec = BuildSpec {
        images: vec!["127.0.0.1:5000/a:1".parse().expect("valid")],
        dockerfile: "Dockerfile".into(),
        push,
        timeout_ms: 1000,
        ..BuildSpec::default()
    };
    let context = ContextInfo { kind: ContextKind::File, bytes: 1, files: 1, ..ContextInfo::default() };
    BuildRecord::new(BuildId::new(), "ada".parse().expect("valid"), spec, context, None, Timestamp::from_millis(1))
}

fn digest() -> Digest {
    format!("sha256:{}", "0".repeat(64)).parse().expect("valid")
}

#[test]
fn the_whole_way_with_a_push() {
    let (worker, node, now) = (WorkerId::unique(), NodeId::new("n"), Timestamp::from_millis(2));
    let mut b = record(true);
    assert_eq!(b.start_attempt(&worker, &node, 1, now), Ok(AttemptStart::Build));
    b.image_built(digest(), 10, &worker, now).expect("from building");
    assert_eq!((b.state, b.message.as_str()), (BuildState::Pushing, "Image successfully built. To be published."));
    b.destinations[0].pushed(digest(), now);
    b.published(now).expect("from pushing");
    assert_eq!(b.message, "Docker Image is successfully pushed to 127.0.0.1:5000");
    assert!(b.stages.iter().all(|s| s.state == StageState::Done && s.finished_at.is_some()));
    assert!(b.cancelled(&[], now).is_err() && b.requeued("x").is_err() && b.lapsed(now).is_err(), "terminal states never change");
}

#[test]
fn a_lost_push_goes_on_with_the_push_on_the_same_node_only() {
    let (worker, node, now) = (WorkerId::unique(), NodeId::new("n"), Timestamp::from_millis(2));
    let mut b = record(true);
    b.start_attempt(&worker, &node, 1, now).expect("queued");
    b.image_built(digest(), 10, &worker, now).expect("building");
    assert_eq!(b.lapsed(now), Ok(Lapse::Requeued));
    assert_eq!(b.clone().start_attempt(&worker, &node, 2, now), Ok(AttemptStart::Push));
    assert_eq!(b.start_attempt(&worker, &NodeId::new("other"), 2, now), Ok(AttemptStart::Build));
    assert_eq!(b.image_id, None);
}

#[test]
fn steps_and_layers_stay_for_a_push_and_go_when_it_is_built_anew() {
    let (worker, node, now) = (WorkerId::unique(), NodeId::new("n"), Timestamp::from_millis(2));
    let mut b = record(true);
    b.start_attempt(&worker, &node, 1, now).expect("queued");
    b.image_built(digest(), 10, &worker, now).expect("building");
    b.steps = vec![Step { number: 1, name: "s".into(), state: StepState::Done, started_at: now, finished_at: Some(now) }];
    b.layers = vec![Layer { instruction: "RUN".into(), bytes: 1 }];
    b.requeued("x").expect("pushing");
    b.start_attempt(&worker, &node, 2, now).expect("queued");
    assert_eq!((b.state, b.steps.len(), b.layers.len()), (BuildState::Pushing, 1, 1));
    let mut elsewhere = b.clone();
    b.restart_build(&worker, now).expect("pushing");
    elsewhere.requeued("x").expect("pushing");
    elsewhere.start_attempt(&worker, &NodeId::new("other"), 3, now).expect("queued");
    for b in [b, elsewhere] {
        assert_eq!((b.state, b.steps.len(), b.layers.len()), (BuildState::Building, 0, 0));
    }
}

#[test]
fn the_third_crash_is_the_last() {
    let (worker, node, now) = (WorkerId::unique(), NodeId::new("n"), Timestamp::from_millis(2));
    let mut b = record(false);
    for attempt in 1..=2 {
        b.start_attempt(&worker, &node, attempt, now).expect("queued");
        assert_eq!(b.lapsed(now), Ok(Lapse::Requeued));
    }
    b.start_attempt(&worker, &node, 3, now).expect("queued");
    assert_eq!(b.lapsed(now), Ok(Lapse::Poisoned));
    assert_eq!(b.error.expect("an error").code, "poisoned");
}

#[test]
fn a_lost_build_that_was_to_be_cancelled_is_cancelled() {
    let mut b = record(true);
    b.start_attempt(&WorkerId::unique(), &NodeId::new("n"), 1, Timestamp::from_millis(2)).expect("queued");
    b.cancel_requested = true;
    assert_eq!(b.lapsed(Timestamp::from_millis(3)), Ok(Lapse::Cancelled));
    assert_eq!(b.state, BuildState::Cancelled);
}
