//! Ids that are the same at each import.

use uuid::Uuid;

/// Kept apart from every other use of the hash.
const NAMESPACE: &str = "hooklog gravitee import 1";

/// The id itself when `text` is a UUID, else one made from kind and text: the same two always give
/// the same id, and no two kinds share one.
pub(super) fn id_of(kind: &str, text: &str) -> Uuid {
    match Uuid::parse_str(text.trim()) {
        Ok(uuid) if !uuid.is_nil() => uuid,
        _ => made_of(kind, text),
    }
}

fn made_of(kind: &str, text: &str) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for part in [NAMESPACE, kind, text] {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Whether `text` is an id that is kept.
pub(super) fn is_kept(text: &str) -> bool {
    Uuid::parse_str(text.trim()).is_ok_and(|uuid| !uuid.is_nil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_kept_and_a_name_always_gives_the_same_one() {
        let uuid = "63cb34e5-e5cb-40cf-94ca-4687e7813473";
        assert_eq!(id_of("api", uuid).to_string(), uuid);
        assert_eq!(id_of("api", "orders"), id_of("api", "orders"));
        assert_ne!(id_of("api", "orders"), id_of("application", "orders"));
        assert!(!id_of("api", &Uuid::nil().to_string()).is_nil());
        // Ids of things that were imported must stay what they are.
        assert_eq!(
            id_of("api", "orders").to_string(),
            "f88bd264-ce44-829c-ba05-c166fd385990"
        );
    }
}
