//! Credentials of a subscription's calls.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    ledger::Node,
    note::NoteKind,
    scalar::{Unit, same},
};
use crate::model::{Auth, CallbackUrl, JwtAlgorithm, JwtClaim, JwtProfile, OAuth2, Secret};

/// What happens to a subscription whose credentials cannot be taken over.
const INSTEAD: &str = "imported without credentials, and paused; those that are set here are kept";
/// Longest life of an assertion, in seconds.
const ASSERTION_SECONDS_MAX: u64 = 3_600;

#[derive(Clone, Copy)]
enum Kind {
    None,
    Basic,
    Token,
    OAuth2,
    JwtProfile,
}

const KINDS: [(&str, Kind); 5] = [
    ("none", Kind::None),
    ("basic", Kind::Basic),
    ("token", Kind::Token),
    ("oauth2", Kind::OAuth2),
    ("jwtProfileOauth2", Kind::JwtProfile),
];

/// The credentials under `auth`; `None`, and a note, when they cannot be taken over.
pub(super) fn auth(holder: &Node<'_>) -> Option<Auth> {
    let Some(node) = holder.get("auth") else {
        return Some(Auth::None);
    };
    if !node.value().is_object() {
        let reason = "is no object with a type";
        node.note(NoteKind::Invalid, reason, INSTEAD);
        return None;
    }
    let Some(kind) = node.get("type") else {
        return Some(Auth::None);
    };
    let kind = kind.choice(&KINDS, INSTEAD)?;
    let name = match kind {
        Kind::None => return Some(Auth::None),
        Kind::Basic => "basic",
        Kind::Token => "token",
        Kind::OAuth2 => "oauth2",
        Kind::JwtProfile => "jwtProfileOauth2",
    };
    // Either under the name of its type or beside it.
    let own = node.get(name).filter(|own| own.value().is_object());
    let settings = own.unwrap_or_else(|| node.clone());
    let auth = match kind {
        Kind::None => Some(Auth::None),
        Kind::Basic => basic(&settings),
        Kind::Token => Some(Auth::Token {
            value: Secret::new(needed(&settings, "value")?),
        }),
        Kind::OAuth2 => oauth2(&settings),
        Kind::JwtProfile => jwt_profile(&settings),
    }?;
    if let Err(invalid) = auth.validate() {
        for problem in invalid.problems {
            let reason = format!("{}: {}", problem.pointer, problem.reason);
            settings.remark(NoteKind::Invalid, reason, INSTEAD);
        }
        return None;
    }
    Some(auth)
}

/// A text without which there is nothing to authenticate with.
fn needed(settings: &Node<'_>, key: &str) -> Option<String> {
    let text = settings.get(key).map(|node| node.literal(INSTEAD));
    match text {
        Some(Some(text)) if !text.is_empty() => Some(text),
        Some(None) => None,
        _ => {
            let reason = format!("has no {key}");
            settings.remark(NoteKind::Invalid, reason, INSTEAD);
            None
        }
    }
}

fn url(node: &Node<'_>, text: &str) -> Option<CallbackUrl> {
    match text.trim().parse() {
        Ok(url) => Some(url),
        Err(invalid) => {
            let invalid: crate::model::Invalid = invalid;
            node.remark(NoteKind::Invalid, invalid.to_string(), INSTEAD);
            None
        }
    }
}

fn basic(settings: &Node<'_>) -> Option<Auth> {
    let username = needed(settings, "username");
    let password = needed(settings, "password");
    Some(Auth::Basic {
        username: username?,
        password: Secret::new(password?),
    })
}

fn oauth2(settings: &Node<'_>) -> Option<Auth> {
    let endpoint = needed(settings, "endpoint").and_then(|text| url(settings, &text));
    let client_id = needed(settings, "clientId");
    let client_secret = needed(settings, "clientSecret");
    let scopes = match settings.get("scopes") {
        Some(scopes) if scopes.value().is_string() => {
            let scopes = scopes.text().unwrap_or_default();
            scopes
                .split([' ', ','])
                .filter(|s| !s.is_empty())
                .map(str::to_owned)
                .collect()
        }
        _ => {
            let scopes = settings.list("scopes").into_iter();
            scopes.filter_map(|scope| scope.text()).collect()
        }
    };
    Some(Auth::Oauth2(OAuth2 {
        endpoint: endpoint?,
        client_id: client_id?,
        client_secret: Secret::new(client_secret?),
        scopes,
    }))
}

const ALGORITHMS: [(&str, JwtAlgorithm); 8] = [
    ("RSA_RS256", JwtAlgorithm::RsaRs256),
    ("HMAC_HS256", JwtAlgorithm::HmacHs256),
    ("HMAC_HS384", JwtAlgorithm::HmacHs384),
    ("HMAC_HS512", JwtAlgorithm::HmacHs512),
    ("RS256", JwtAlgorithm::RsaRs256),
    ("HS256", JwtAlgorithm::HmacHs256),
    ("HS384", JwtAlgorithm::HmacHs384),
    ("HS512", JwtAlgorithm::HmacHs512),
];

fn jwt_profile(settings: &Node<'_>) -> Option<Auth> {
    let algorithm = settings.get("signatureAlgorithm");
    if algorithm.is_none() {
        let reason = "has no signatureAlgorithm";
        settings.remark(NoteKind::Invalid, reason, INSTEAD);
    }
    let algorithm = algorithm.and_then(|node| node.choice(&ALGORITHMS, INSTEAD));
    let key = key(settings);
    let [issuer, subject, audience] =
        ["issuer", "subject", "audience"].map(|name| needed(settings, name));
    // Gravitee asks the audience for the token.
    let endpoint = match settings.any(&["endpoint", "tokenEndpoint"]) {
        Some(node) => node.literal(INSTEAD).and_then(|text| url(&node, &text)),
        None => audience.as_deref().and_then(|text| url(settings, text)),
    };
    extras(settings);
    Some(Auth::JwtProfileOauth2(Box::new(JwtProfile {
        endpoint: endpoint?,
        issuer: issuer?,
        subject: subject?,
        audience: audience?,
        signature_algorithm: algorithm?,
        key_content: key?,
        expiration_seconds: expiration(settings),
        key_id: settings.get("keyId").and_then(|node| node.word()),
        custom_claims: claims(settings),
    })))
}

/// The key that signs, when it stands in the definition itself.
fn key(settings: &Node<'_>) -> Option<Secret> {
    if let Some(source) = settings.get("keySource")
        && !source.text().is_some_and(|text| same(&text, "inline"))
    {
        let reason = "keys are taken from keyContent alone, as PEM or shared key";
        source.note(NoteKind::Unsupported, reason, INSTEAD);
        return None;
    }
    let encoded = settings.get("secretBase64Encoded");
    let encoded = encoded.and_then(|node| node.flag()).unwrap_or(false);
    let key = needed(settings, "keyContent")?;
    if !encoded {
        return Some(Secret::new(key));
    }
    let decoded = STANDARD.decode(key.trim()).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    if decoded.is_none() {
        let reason = "has a key that is not text in base64";
        settings.remark(NoteKind::Unsupported, reason, INSTEAD);
    }
    decoded.map(Secret::new)
}

fn expiration(settings: &Node<'_>) -> u64 {
    const UNITS: [(&str, u64); 5] = [
        ("MILLISECONDS", 0),
        ("SECONDS", 1),
        ("MINUTES", 60),
        ("HOURS", 3_600),
        ("DAYS", 86_400),
    ];
    let unit = settings.get("expirationTimeUnit");
    let unit = unit
        .and_then(|unit| unit.choice(&UNITS, "taken as SECONDS"))
        .unwrap_or(1);
    let time = settings.any(&["expirationTime", "expirationSeconds"]);
    let Some((time, node)) = time.and_then(|node| Some((node.duration(Unit::Seconds)?, node)))
    else {
        return 60;
    };
    let seconds = match unit {
        0 => time.div_ceil(1_000),
        unit => time.saturating_mul(unit),
    };
    node.clamped(seconds, 1, ASSERTION_SECONDS_MAX)
}

fn claims(settings: &Node<'_>) -> Vec<JwtClaim> {
    let mut claims = Vec::new();
    for node in settings.list("customClaims") {
        let [name, value] =
            ["name", "value"].map(|key| node.get(key).and_then(|n| n.literal("left out")));
        match (name, value) {
            (Some(name), Some(value)) => claims.push(JwtClaim { name, value }),
            _ => node.note(NoteKind::Invalid, "has no name or no value", "left out"),
        }
    }
    claims
}

/// What an assertion may hold in Gravitee and does not here.
fn extras(settings: &Node<'_>) {
    if let Some(chain) = settings.get("x509CertChain")
        && !chain.text().is_some_and(|text| same(&text, "none"))
    {
        let reason = "assertions carry no certificates here";
        chain.note(NoteKind::Unsupported, reason, "left out");
    }
    if let Some(id) = settings.get("jwtId").filter(|id| id.value() != "") {
        let reason = "each assertion gets an id of its own here";
        id.note(NoteKind::Changed, reason, "left out");
    }
}
