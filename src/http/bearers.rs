//! Bearers that were let in before: most requests come with a token that was just seen.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::{
    model::TokenHash,
    projection::{
        View, ViewError,
        access::{Access, TokenRow},
    },
};

/// Most tokens that are remembered.
const TOKENS_MAX: usize = 10_000;

/// Tokens by the hashes of their secrets, as the rows had them when they last changed.
#[derive(Debug, Default)]
pub(super) struct Bearers(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    changes: u64,
    tokens: HashMap<TokenHash, TokenRow>,
}

impl Bearers {
    /// The token whose secret has this hash, unless it is revoked. It may be past its time.
    pub(super) fn find(
        &self,
        access: &View<Access>,
        hash: TokenHash,
    ) -> Result<Option<TokenRow>, ViewError> {
        // Looked at before the rows: what is remembered is then never older than it says.
        let changes = access.changes();
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.changes == changes
            && let Some(row) = known.tokens.get(&hash)
        {
            return Ok(Some(row.clone()));
        }
        drop(known);
        let found = access.bearer(&hash)?;
        if let Some(row) = &found {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if known.changes != changes || known.tokens.len() >= TOKENS_MAX {
                known.tokens.clear();
                known.changes = changes;
            }
            known.tokens.insert(hash, row.clone());
        }
        Ok(found)
    }
}
