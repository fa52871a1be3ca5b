//! Random histories of several workers and callers, on both stores, against a small model.

mod concurrent;
mod model;

use std::time::Duration;

use dockwright::domain::{BuildId, BuildRecord, Scope};
use dockwright::store::{Claim, Guard, Renewal, Store, StoreError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::store_contract::fixture::*;
use model::{Expected, Model};

/// One thing that somebody does. Numbers choose among what there is, modulo how many there are.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        owner: usize,
        priority: i8,
    },
    SubmitAgain {
        build: usize,
    },
    /// `dead`: the worker never renews; its lease is over at once.
    Claim {
        dead: bool,
    },
    Renew {
        claim: usize,
        dead: bool,
    },
    Append {
        claim: usize,
        batch: u64,
        lines: usize,
    },
    Built {
        claim: usize,
    },
    Publish {
        claim: usize,
    },
    Requeue {
        claim: usize,
    },
    Cancelled {
        claim: usize,
    },
    Reap,
    Cancel {
        build: usize,
    },
    Delete {
        build: usize,
    },
}

const OWNERS: [&str; 3] = ["ada", "bob", "cyd"];
const ANY: std::ops::Range<usize> = 0..1000;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..OWNERS.len(), -1..=1_i8).prop_map(|(owner, priority)| Step::Submit { owner, priority }),
        1 => ANY.prop_map(|build| Step::SubmitAgain { build }),
        6 => any::<bool>().prop_map(|dead| Step::Claim { dead }),
        2 => (ANY, any::<bool>()).prop_map(|(claim, dead)| Step::Renew { claim, dead }),
        3 => (ANY, 1..4_u64, 0..3_usize).prop_map(|(claim, batch, lines)| Step::Append { claim, batch, lines }),
        3 => ANY.prop_map(|claim| Step::Built { claim }),
        3 => ANY.prop_map(|claim| Step::Publish { claim }),
        2 => ANY.prop_map(|claim| Step::Requeue { claim }),
        1 => ANY.prop_map(|claim| Step::Cancelled { claim }),
        3 => Just(Step::Reap),
        2 => ANY.prop_map(|build| Step::Cancel { build }),
        1 => ANY.prop_map(|build| Step::Delete { build }),
    ]
}

#[test]
fn sqlite_does_as_the_model() {
    run(30, Bench::sqlite);
}

#[test]
fn redis_does_as_the_model() {
    run(30, Bench::redis);
}

fn run(cases: u32, bench: fn() -> Bench) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() });
    let history = proptest::collection::vec(step(), 1..60);
    let result = runner.run(&history, |steps| {
        runtime.block_on(async {
            let bench = bench();
            let mut play = Play { store: bench.store(), model: Model::default(), claims: Vec::new() };
            for step in steps {
                play.step(&step).await;
                play.check().await;
            }
            bench.clean().await;
        });
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

struct Play<'a> {
    store: &'a Store,
    model: Model,
    /// Every claim that was ever given, those that are over too.
    claims: Vec<Claim>,
}

impl Play<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Submit { owner, priority } => {
                let new = build_for(OWNERS[*owner], *priority, &["127.0.0.1:5000/a"]);
                self.store.submit(&new).await.expect("accepted");
                self.model.submit(new);
            }
            Step::SubmitAgain { build } => {
                if let Some(new) = self.model.accepted(*build) {
                    self.store.submit(&new).await.expect("accepted");
                }
            }
            Step::Claim { dead } => self.claim(*dead).await,
            Step::Reap => self.reap().await,
            Step::Cancel { build } => self.cancel(*build).await,
            Step::Delete { build } => self.delete(*build).await,
            Step::Renew { claim, .. }
            | Step::Append { claim, .. }
            | Step::Built { claim }
            | Step::Publish { claim }
            | Step::Requeue { claim }
            | Step::Cancelled { claim } => {
                if !self.claims.is_empty() {
                    let claim = self.claims[claim % self.claims.len()].clone();
                    self.work(step, &claim).await;
                }
            }
        }
    }

    async fn claim(&mut self, dead: bool) {
        let expected = self.model.order().first().copied();
        let claim = claim_for(self.store, lease(dead)).await;
        assert_eq!(claim.as_ref().map(|claim| claim.stored.record.id), expected, "whose turn it was");
        if let Some(claim) = claim {
            self.model.claimed(&claim, dead);
            self.claims.push(claim);
        }
    }

    /// What the holder of a claim, perhaps of one that is over, tries to do.
    async fn work(&mut self, step: &Step, claim: &Claim) {
        let id = claim.stored.record.id;
        let held = self.model.held(id, claim.fence);
        match step {
            Step::Renew { dead, .. } => {
                let renewal = self.store.renew(id, claim.fence, lease(*dead)).await.expect("answers");
                let expected = match held.as_deref() {
                    None => Renewal::Lost,
                    Some(build) if build.record.cancel_requested => Renewal::CancelRequested,
                    Some(_) => Renewal::Continue,
                };
                assert_eq!(renewal, expected);
                if let Some(build) = held {
                    build.overdue = *dead;
                }
            }
            Step::Append { batch, lines: count, .. } => {
                let appended = self.store.append_log(id, claim.fence, *batch, &lines(&vec!["x"; *count])).await;
                match held {
                    None => assert!(matches!(appended, Err(StoreError::Lost))),
                    Some(build) => {
                        if *batch > build.batch {
                            build.batch = *batch;
                            build.last_seq += *count as u64;
                        }
                        assert_eq!(appended.expect("its own build"), build.last_seq);
                    }
                }
            }
            _ => {
                let held = held.is_some();
                let changed = self.store.update(id, &Guard::Lease(claim.fence), rule(step, claim)).await;
                match changed {
                    Err(StoreError::Lost) => assert!(!held, "a claim that holds was told it is over"),
                    Err(StoreError::Refused(_)) => assert!(held, "a claim that is over was asked for its rule"),
                    Ok(Some(stored)) => {
                        assert!(held, "a claim that is over has written");
                        self.model.changed(stored);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    async fn reap(&mut self) {
        let mut reaped: Vec<_> = self.store.reap().await.expect("answers").iter().map(|reaped| reaped.build).collect();
        reaped.sort_unstable();
        assert_eq!(reaped, self.model.overdue(), "exactly those that ran out");
        for id in reaped {
            self.model.lapsed(get(self.store, id).await);
        }
    }

    async fn cancel(&mut self, build: usize) {
        let Some(id) = self.model.nth(build) else { return };
        match cancel(self.store, id).await {
            Ok(stored) => self.model.changed(stored.expect("exists")),
            Err(StoreError::Refused(_)) => assert!(self.model.build(id).record.state.is_terminal()),
            other => panic!("{other:?}"),
        }
    }

    async fn delete(&mut self, build: usize) {
        let Some(id) = self.model.nth(build) else { return };
        let deleted = self.store.delete(&Scope::All, id).await.expect("answers").expect("exists");
        let expected = self.model.deleted(id);
        assert_eq!(deleted.record, expected.record);
        assert_eq!(deleted.removal.map(|removal| removal.node), expected.record.node);
    }

    /// What mod.rs of the store says is true after every commit.
    async fn check(&self) {
        let stats = self.store.stats().await.expect("answers");
        assert_eq!((stats.queued, stats.running), self.model.stats());
        for (n, id) in self.model.order().into_iter().enumerate() {
            assert_eq!(self.store.position(id).await.expect("answers"), Some(n as u64), "once, at its place");
        }
        for expected in self.model.builds() {
            self.check_build(expected).await;
        }
        for id in self.model.gone() {
            assert!(self.store.get(&Scope::All, *id).await.expect("answers").is_none());
        }
    }

    async fn check_build(&self, expected: &Expected) {
        let id = expected.record.id;
        let stored = get(self.store, id).await;
        assert_eq!(stored.record, expected.record);
        let seen = (stored.revision, stored.last_seq, stored.fence, stored.leased);
        assert_eq!(seen, (expected.revision, expected.last_seq, expected.fence, expected.leased));
        let events = self.store.events(&Scope::All, id, 0, 10_000).await.expect("answers").expect("exists");
        check_events(&events, &stored.record);
        assert_eq!(events.len() as u64, stored.last_seq);
    }
}

/// Numbered without gaps, and the newest state is the record.
fn check_events(events: &[dockwright::domain::Event], record: &BuildRecord) {
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event.seq, n as u64 + 1);
    }
    let newest = events.iter().rev().find_map(|event| match &event.body {
        dockwright::domain::EventBody::State { build } => Some(build.as_ref()),
        dockwright::domain::EventBody::Log(_) => None,
    });
    assert_eq!(newest, Some(record));
}

fn lease(dead: bool) -> Duration {
    if dead { Duration::ZERO } else { LONG }
}

type Rule = Box<dyn Fn(&mut BuildRecord, dockwright::domain::Timestamp, bool) -> Result<(), StoreError> + Send + Sync>;

fn rule(step: &Step, claim: &Claim) -> Rule {
    let (step, worker) = (step.clone(), claim.stored.record.worker.clone().expect("claimed"));
    Box::new(move |record, now, leased| {
        assert!(leased, "a guard let somebody through without a lease");
        let done = match step {
            Step::Built { .. } => record.image_built(digest('a'), 1, &worker, now),
            Step::Publish { .. } => record.published(now),
            Step::Requeue { .. } => record.requeued("handed back"),
            _ => record.cancelled(&[], now),
        };
        done.map_err(|e| StoreError::Refused(e.to_string()))
    })
}

fn id_of(claim: &Claim) -> BuildId {
    claim.stored.record.id
}
