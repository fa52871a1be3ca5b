//! The contract of the store, each sentence of it, on both backends: a real file and a real Redis.
#![allow(clippy::disallowed_types, reason = "a test of an adapter looks behind it")]

mod ages;
mod aside;
mod ended;
mod fences;
pub mod fixture;
mod list;
mod log;
mod lost_answers;
mod objects;
mod outage;
mod queue;
mod quota;
mod records;
mod sqlite_file;
mod turns;
mod unreadable;

/// Makes a test per backend of each case. Every test has a file, or a key prefix, of its own.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bench = crate::store_contract::fixture::Bench::sqlite();
                super::$case(bench.store()).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bench = crate::store_contract::fixture::Bench::redis();
                super::$case(bench.store()).await;
                bench.clean().await;
            })*
        }
    };
}
use on_both;

/// The same for cases that reach behind the store: they get the whole bench.
macro_rules! behind_both {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let mut bench = crate::store_contract::fixture::Bench::sqlite();
                super::$case(&mut bench).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let mut bench = crate::store_contract::fixture::Bench::redis();
                super::$case(&mut bench).await;
                bench.clean().await;
            })*
        }
    };
}
use behind_both;
