//! What messages carry.

use bytes::Bytes;

/// Bytes of each body.
pub(super) const BODY_BYTES: usize = 1_024;

/// The body of a message: its number, then letters of which some 60 % are the same in each.
pub(super) fn body(number: usize) -> Bytes {
    let mut random = [0; BODY_BYTES * 2 / 5];
    blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof()
        .fill(&mut random);
    let random: String = random.iter().map(|b| char::from(b'a' + b % 26)).collect();
    let head = format!(r#"{{"number":"{number:08}","order":"{random}","note":""#);
    let note = "paid in euros and on its way, ".repeat(BODY_BYTES / 30);
    let note = &note[..BODY_BYTES - head.len() - 2];
    format!(r#"{head}{note}"}}"#).into()
}

/// The number that a body begins with.
pub(super) fn number(body: &[u8]) -> Option<usize> {
    let digits = body.strip_prefix(br#"{"number":""#)?.get(..8)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Bodies as a batch of messages.
pub(super) fn batch(bodies: &[Bytes]) -> Bytes {
    let mut all = Vec::new();
    for body in bodies {
        all.extend_from_slice(if all.is_empty() { b"[" } else { b"," });
        all.extend_from_slice(b"{\"content\":");
        all.extend_from_slice(body);
        all.push(b'}');
    }
    all.push(b']');
    all.into()
}
