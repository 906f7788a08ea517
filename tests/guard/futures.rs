//! The async front.

use super::{LONG, Site, lost, millis};
use memlatch::{Client, ErrorKind, LossReason};

async fn client(site: &Site) -> Client {
    let builder = site.settings(Client::builder());
    builder.build().await.expect("the server is there")
}

#[tokio::test]
async fn a_lock_that_is_held_is_verified() {
    for site in &Site::all() {
        let one = client(site).await;
        for lock in [one.lock("a"), one.lock("lean").lean()] {
            let guard = lock.lease(LONG).acquire().await.expect("free");
            guard.verify().await.expect("just acquired");
            assert!(guard.is_valid());
        }
    }
}

#[tokio::test]
async fn a_loss_that_verify_finds_is_told_at_once() {
    for site in &Site::all() {
        let one = client(site).await;
        for reason in [LossReason::Vanished, LossReason::TakenOver] {
            let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
            if reason == LossReason::Vanished {
                site.delete(guard.key());
            } else {
                site.overtake(guard.key());
            }
            let (told, error) = tokio::join!(guard.lost(), guard.verify());
            assert_eq!(told, reason);
            lost(&error.expect_err("lost"), reason);
            assert!(!guard.is_valid());
            // Without asking again.
            site.server.stop_signal();
            lost(&guard.verify().await.expect_err("lost"), reason);
            site.server.continue_signal();
        }
    }
}

#[tokio::test]
async fn verify_finds_a_server_that_was_restarted() {
    for mut site in Site::all() {
        let one = client(&site).await;
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        site.server.restart();
        let error = loop {
            // The first question may find the connection closed.
            let error = guard.verify().await.expect_err("lost");
            if error.kind() == ErrorKind::Lost {
                break error;
            }
        };
        lost(&error, LossReason::ServerRestarted);
        assert_eq!(guard.lost().await, LossReason::ServerRestarted);
    }
}

#[tokio::test]
async fn a_silent_server_says_nothing_about_the_lock() {
    for site in &Site::all() {
        let builder = site.settings(Client::builder());
        let one = builder.operation_timeout(millis(300)).build().await;
        let one = one.expect("the server is there");
        let guard = one.lock("a").lease(LONG).acquire().await.expect("free");
        site.server.stop_signal();
        let error = guard.verify().await.expect_err("nobody answers");
        site.server.continue_signal();
        assert!(error.is_unknown() || error.is_unavailable(), "{error}");
        assert!(guard.is_valid());
        guard.verify().await.expect("still ours");
    }
}
