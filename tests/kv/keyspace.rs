//! The store against a simple model, with time going on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Random;
use crate::store::{Expiry, OutOfMemory, Store};

fn value(text: &str) -> Arc<[u8]> {
    Arc::from(text.as_bytes())
}

/// What the store should hold: a value, and when it expires.
type Model = BTreeMap<Vec<u8>, (Arc<[u8]>, Option<u64>)>;

#[test]
fn a_key_is_gone_from_its_deadline_on() {
    let mut store = Store::new(1 << 20, 0);
    store.set(b"a", value("1"), Expiry::At(100), 0).unwrap();
    assert!(store.contains(b"a", 99));
    assert!(!store.contains(b"a", 100));
    assert!(!store.expire_at(b"a", Some(500), 100), "a key that is gone cannot be kept");
    assert!(!store.remove(b"a", 100));
    assert_eq!((store.len(), store.expiring(), store.memory()), (0, 0, 0));
}

#[test]
fn expire_gives_memory_back_in_steps() {
    let mut store = Store::new(1 << 20, 0);
    for index in 0..10u64 {
        store.set(&index.to_le_bytes(), value("x"), Expiry::At(10 + index), 0).unwrap();
    }
    assert_eq!(store.nearest(), Some(10));
    assert!(!store.expire(3, 14), "five are due");
    assert_eq!(store.len(), 7);
    assert!(store.expire(3, 14));
    assert_eq!((store.len(), store.nearest()), (5, Some(15)));
}

#[test]
fn a_write_above_the_limit_changes_nothing() {
    let mut store = Store::new(1000, 0);
    store.set(b"a", value("old"), Expiry::At(50), 0).unwrap();
    let (memory, large) = (store.memory(), value(&"x".repeat(1000)));
    assert_eq!(store.set(b"a", large.clone(), Expiry::Never, 0), Err(OutOfMemory));
    assert_eq!(store.set(b"b", large, Expiry::Never, 0), Err(OutOfMemory));
    assert_eq!(store.get(b"a", 0), Some(&value("old")));
    assert_eq!((store.deadline(b"a", 0), store.memory()), (Some(Some(50)), memory));
}

#[test]
fn random_operations_agree_with_a_model() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut store = Store::new(usize::MAX, seed);
        let mut model = Model::new();
        let mut now = 0;
        for step in 0..300 {
            now += random.below(5) as u64;
            model.retain(|_, entry| entry.1.is_none_or(|at| at > now));
            let key = vec![random.below(8) as u8];
            let at = random.below(2).eq(&0).then(|| now + 1 + random.below(20) as u64);
            match random.below(6) {
                0 | 1 => {
                    let value = value(&step.to_string());
                    store.set(&key, value.clone(), at.map_or(Expiry::Never, Expiry::At), now).unwrap();
                    model.insert(key, (value, at));
                }
                2 => assert_eq!(store.remove(&key, now), model.remove(&key).is_some()),
                3 => {
                    let found = model.get_mut(&key).map(|entry| entry.1 = at).is_some();
                    assert_eq!(store.expire_at(&key, at, now), found);
                }
                4 => drop(store.expire(random.below(3), now)),
                _ => {
                    assert_eq!(store.get(&key, now), model.get(&key).map(|entry| &entry.0), "seed {seed}");
                    assert_eq!(
                        store.deadline(&key, now),
                        model.get(&key).map(|entry| entry.1),
                        "seed {seed}"
                    );
                }
            }
        }
        assert!(store.expire(1000, now));
        assert_eq!(store.len(), model.len());
        assert_eq!(store.nearest(), model.values().filter_map(|entry| entry.1).min());
        store.clear();
        assert_eq!((store.len(), store.expiring(), store.memory()), (0, 0, 0));
    }
}
