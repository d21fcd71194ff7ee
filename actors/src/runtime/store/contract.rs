//! What every store promises, as one suite that is run against each adapter.

use bytes::Bytes;
use protocol::Tenant;

use super::{Error, RuntimeStore, Space, VALUE_MAX_BYTES};

fn of(tenant: &str) -> Space {
    Space::Of(Tenant::new(tenant).expect("letters are a tenant"))
}

/// Panics where `store`, which must be empty, breaks a promise.
pub async fn holds(store: &dyn RuntimeStore) {
    a_value_is_written_only_over_the_one_that_was_seen(store).await;
    what_was_removed_is_gone_and_can_come_again(store).await;
    tenants_and_names_are_kept_apart(store).await;
    what_is_too_large_or_no_name_is_refused(store).await;
    of_many_who_write_at_once_one_does(store).await;
}

async fn a_value_is_written_only_over_the_one_that_was_seen(store: &dyn RuntimeStore) {
    let (acme, name) = (of("acme"), "arbiter/prod/web.v1");
    assert_eq!(store.get(&acme, name).await, Ok(None));
    let first = store.put(&acme, name, "1".into(), 0).await.expect("nothing stands there");
    assert!(matches!(store.put(&acme, name, "1b".into(), 0).await, Err(Error::Stale { .. })));
    let second = store.put(&acme, name, "2".into(), first).await.expect("it is the last one");
    assert!(second > first, "revisions grow");
    assert!(matches!(store.put(&acme, name, "3".into(), first).await, Err(Error::Stale { .. })));
    let there = store.get(&acme, name).await.expect("it can be read").expect("it is there");
    assert_eq!((there.revision, there.bytes), (second, Bytes::from("2")));
}

async fn what_was_removed_is_gone_and_can_come_again(store: &dyn RuntimeStore) {
    let (acme, name) = (of("acme"), "binding/test");
    assert_eq!(store.remove(&acme, name, 0).await, Ok(()), "what is not there is removed already");
    let first = store.put(&acme, name, "1".into(), 0).await.expect("nothing stands there");
    let second = store.put(&acme, name, "2".into(), first).await.expect("it is the last one");
    assert!(matches!(store.remove(&acme, name, first).await, Err(Error::Stale { .. })));
    assert_eq!(store.remove(&acme, name, second).await, Ok(()));
    assert_eq!(store.remove(&acme, name, second).await, Ok(()), "again is the same");
    assert_eq!(store.get(&acme, name).await, Ok(None));
    assert_eq!(store.list(&acme, "binding").await, Ok(Vec::new()));
    let third = store.put(&acme, name, "3".into(), 0).await.expect("nothing stands there again");
    assert!(third > second, "revisions grow over a removal too");
    store.remove(&acme, name, third).await.expect("it is the last one");
}

async fn tenants_and_names_are_kept_apart(store: &dyn RuntimeStore) {
    let (acme, other) = (of("acme"), of("other"));
    for (space, name) in [
        (&acme, "service/prod/web"),
        (&acme, "service/prod/api"),
        (&acme, "service/prod-2/web"),
        (&acme, "service/prod"),
        (&other, "service/prod/theirs"),
        (&Space::Shared, "service/prod/all"),
    ] {
        store.put(space, name, name.to_owned().into(), 0).await.expect("nothing stands there");
    }
    let names = async |space: &Space, prefix: &str| -> Vec<String> {
        let listed = store.list(space, prefix).await.expect("it can be listed");
        assert!(listed.iter().all(|(name, stored)| stored.bytes == name.as_bytes()), "{listed:?}");
        listed.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(&acme, "service/prod").await, ["service/prod/api", "service/prod/web"]);
    assert_eq!(names(&other, "service").await, ["service/prod/theirs"]);
    assert_eq!(names(&Space::Shared, "service").await, ["service/prod/all"]);
    assert_eq!(names(&acme, "nothing").await, [""; 0]);
    assert_eq!(store.get(&other, "service/prod/web").await, Ok(None));
}

async fn what_is_too_large_or_no_name_is_refused(store: &dyn RuntimeStore) {
    let acme = of("acme");
    let most = Bytes::from(vec![b'x'; VALUE_MAX_BYTES]);
    let put = store.put(&acme, "large/most", most.clone(), 0).await;
    assert!(put.is_ok(), "the largest value that is allowed fits: {put:?}");
    let more = Bytes::from(vec![b'x'; VALUE_MAX_BYTES + 1]);
    let refused = store.put(&acme, "large/more", more, 0).await;
    assert!(matches!(refused, Err(Error::TooLarge { bytes, .. }) if bytes == VALUE_MAX_BYTES + 1), "{refused:?}");
    assert_eq!(store.get(&acme, "large/more").await, Ok(None));
    for bad in ["", "a//b", "a b", "a/*", "a/>", "a/b/"] {
        assert!(matches!(store.get(&acme, bad).await, Err(Error::BadName { .. })), "{bad:?}");
        assert!(matches!(store.put(&acme, bad, Bytes::new(), 0).await, Err(Error::BadName { .. })), "{bad:?}");
    }
}

async fn of_many_who_write_at_once_one_does(store: &dyn RuntimeStore) {
    let (acme, name) = (of("acme"), "race/one");
    let put = |byte: u8| store.put(&acme, name, Bytes::from(vec![byte]), 0);
    let (a, b, c, d) = tokio::join!(put(0), put(1), put(2), put(3));
    let outcomes = [a, b, c, d];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(Error::Stale { .. }))), "{outcomes:?}");
}
