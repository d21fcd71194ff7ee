//! What every adapter of [`SecretStore`] must do.

use super::*;

fn token(text: &str) -> RequestKey {
    RequestKey::new(text).unwrap()
}

fn shown(got: Result<(u64, Secret), Failure>) -> String {
    match got {
        Ok((number, value)) => format!("{number} {}", String::from_utf8_lossy(value.reveal())),
        Err(failure) => {
            assert!(!failure.to_string().contains("value-"), "an error shows a value: {failure}");
            format!("{}{}", failure.error, if failure.permanent { "" } else { " for now" })
        }
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    let failure = result.unwrap_err();
    assert!(failure.permanent, "{failure}");
    failure.error
}

/// Holds `store` to the port's promises. Nothing is kept under `name` yet.
pub async fn hold(store: &dyn SecretStore, name: &SecretName) {
    let number = |number| Which::Number(number);
    let labelled = |label| Which::Labelled(label);
    let get = async |which| shown(store.get(name, which).await);
    let create = async |by: &str, value: &str| store.create_version(name, &token(by), Secret::new(value)).await;
    let labels = async || store.describe(name).await.unwrap().unwrap().labels;

    // What is not there.
    assert_eq!(store.describe(name).await.unwrap(), None);
    assert_eq!(get(number(1)).await, "UnknownSecret");
    assert_eq!(get(labelled(Label::Current)).await, "UnknownSecret");
    assert_eq!(refusal(store.retire(name, 1).await), "UnknownSecret");
    assert_eq!(refusal(store.set_labels(name, Labels::default(), Labels::default()).await), "UnknownSecret");

    // The first version: pending, and current once that is said.
    assert_eq!(create("day-1", "value-1").await.unwrap(), 1);
    assert_eq!(get(labelled(Label::Pending)).await, "1 value-1");
    assert_eq!(get(labelled(Label::Current)).await, "UnknownLabel");
    let seen = labels().await;
    assert_eq!(seen, Labels { pending: Some(1), ..Labels::default() });
    store.set_labels(name, seen, seen.with_current(1)).await.unwrap();
    assert_eq!(get(labelled(Label::Current)).await, "1 value-1");
    assert!(store.list().await.unwrap().contains(name));

    // The four steps of a rotation; until the last one the old version counts.
    assert_eq!(create("day-2", "value-2").await.unwrap(), 2);
    assert_eq!(get(labelled(Label::Current)).await, "1 value-1");
    assert_eq!(get(labelled(Label::Pending)).await, "2 value-2");
    // The first step again, by somebody who made up another value: the first one stays.
    assert_eq!(create("day-2", "value-other").await.unwrap(), 2);
    assert_eq!(get(number(2)).await, "2 value-2");
    let seen = labels().await;
    let done = seen.with_current(2);
    store.set_labels(name, seen, done).await.unwrap();
    assert_eq!(get(labelled(Label::Current)).await, "2 value-2");
    assert_eq!(get(labelled(Label::Previous)).await, "1 value-1");
    assert_eq!(get(labelled(Label::Pending)).await, "UnknownLabel");
    // The commit again, with what was seen before it: already current, nothing done.
    store.set_labels(name, seen, done).await.unwrap();
    assert_eq!(labels().await, done);
    // Creating again after the commit does not make it pending again.
    assert_eq!(create("day-2", "value-2").await.unwrap(), 2);
    assert_eq!(labels().await, done);

    // Somebody who saw the labels elsewhere moves nothing.
    let late = Labels { pending: None, current: Some(1), previous: None };
    assert_eq!(refusal(store.set_labels(name, seen, late).await), "LabelsChanged");
    assert_eq!(labels().await, done);
    // Labels stay on versions that are there.
    let nowhere = Labels { current: Some(9), ..done };
    assert_eq!(refusal(store.set_labels(name, done, nowhere).await), "UnknownVersion");

    // A rotation that failed: its version goes, the old one counts as before.
    assert_eq!(create("day-3", "value-3").await.unwrap(), 3);
    assert_eq!(create("day-4", "value-4").await.unwrap(), 4);
    assert_eq!(labels().await, Labels { pending: Some(4), ..done }, "the newer one is pending");
    for _ in 0..2 {
        store.destroy(name, 4).await.unwrap();
        assert_eq!(labels().await, done);
    }
    assert_eq!(get(number(4)).await, "VersionDestroyed");
    assert_eq!(refusal(create("day-4", "value-4").await), "VersionDestroyed");
    assert_eq!(refusal(store.reinstate(name, 4).await), "VersionDestroyed");
    assert_eq!(refusal(store.retire(name, 4).await), "VersionDestroyed");
    let on_it = Labels { current: Some(4), ..done };
    assert_eq!(refusal(store.set_labels(name, done, on_it).await), "VersionDestroyed");

    // The old version is retired, needed once more, and destroyed.
    assert_eq!(refusal(store.retire(name, 2).await), "StillCurrent");
    assert_eq!(refusal(store.destroy(name, 2).await), "StillCurrent");
    for _ in 0..2 {
        store.retire(name, 1).await.unwrap();
        assert_eq!(get(number(1)).await, "VersionRetired");
        assert_eq!(labels().await, Labels { current: Some(2), ..Labels::default() });
    }
    assert_eq!(get(labelled(Label::Previous)).await, "UnknownLabel");
    let here = labels().await;
    assert_eq!(refusal(store.set_labels(name, here, here.with_current(1)).await), "VersionRetired");
    for _ in 0..2 {
        store.reinstate(name, 1).await.unwrap();
        assert_eq!(get(number(1)).await, "1 value-1");
    }
    store.destroy(name, 1).await.unwrap();
    assert_eq!(get(number(1)).await, "VersionDestroyed");
    assert_eq!(refusal(store.destroy(name, 9).await), "UnknownVersion");
    assert_eq!(get(number(9)).await, "UnknownVersion");

    // What is known of it, without a value anywhere.
    let described = store.describe(name).await.unwrap().unwrap();
    let states: Vec<_> = described.versions.iter().map(|v| (v.number, v.token.as_str(), v.state)).collect();
    let expected = [
        (1, "day-1", State::Destroyed),
        (2, "day-2", State::Active),
        (3, "day-3", State::Active),
        (4, "day-4", State::Destroyed),
    ];
    assert_eq!(states, expected);
    assert!(!format!("{described:?}").contains("value-"));

    // Any bytes, up to the limit.
    let most: Vec<u8> = (0..VALUE_MAX_BYTES).map(|n| n as u8).collect();
    assert_eq!(store.create_version(name, &token("most"), Secret::new(most.clone())).await.unwrap(), 5);
    assert_eq!(store.get(name, number(5)).await.unwrap().1.reveal(), most);
    let more = Secret::new(vec![0; VALUE_MAX_BYTES + 1]);
    assert_eq!(refusal(store.create_version(name, &token("more"), more).await), "SecretTooLarge");
    assert_eq!(store.create_version(name, &token("none"), Secret::new("")).await.unwrap(), 6);
    assert_eq!(get(number(6)).await, "6 ");

    // All of it goes, and another of that name begins anew.
    for _ in 0..2 {
        store.remove(name).await.unwrap();
        assert_eq!(store.describe(name).await.unwrap(), None);
        assert_eq!(get(number(6)).await, "UnknownSecret");
        assert!(!store.list().await.unwrap().contains(name));
    }
    assert_eq!(create("day-1", "value-new").await.unwrap(), 1);
    assert_eq!(get(labelled(Label::Pending)).await, "1 value-new");
}
