//! Things of a gateway by the names that people give them.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use super::{CliError, client::Client};
use crate::{
    model::{Api, ApiId, Application, ApplicationId},
    nearest::nearest,
};

#[derive(Deserialize)]
struct Apis {
    apis: Vec<Api>,
}

#[derive(Deserialize)]
struct Applications {
    applications: Vec<Application>,
}

impl Client {
    /// Every API.
    pub(super) fn apis(&self) -> Result<Vec<Api>, CliError> {
        let answer: Apis = self.get(&["v1", "apis"]).send()?.parse()?;
        Ok(answer.apis)
    }

    /// Every application.
    pub(super) fn applications(&self) -> Result<Vec<Application>, CliError> {
        let answer: Applications = self.get(&["v1", "applications"]).send()?.parse()?;
        Ok(answer.applications)
    }

    /// The API with this id or name.
    pub(super) fn api(&self, wanted: &str) -> Result<ApiId, CliError> {
        if let Ok(id) = wanted.parse() {
            return Ok(id);
        }
        let apis = self.apis()?;
        let named = apis.iter().map(|api| (api.name.as_str(), api.id));
        find("API", wanted, &named.collect::<Vec<_>>())
    }

    /// The API with this id or name, or the only one there is.
    pub(super) fn api_or_only(&self, wanted: Option<&str>) -> Result<ApiId, CliError> {
        if let Some(wanted) = wanted {
            return self.api(wanted);
        }
        let apis = self.apis()?;
        let named = apis.iter().map(|api| (api.name.as_str(), api.id));
        only(&named.collect::<Vec<_>>())
    }

    /// The application with this id or name.
    pub(super) fn application(&self, wanted: &str) -> Result<ApplicationId, CliError> {
        if let Ok(id) = wanted.parse() {
            return Ok(id);
        }
        let applications = self.applications()?;
        let named = applications.iter().map(|one| (one.name.as_str(), one.id));
        find("application", wanted, &named.collect::<Vec<_>>())
    }
}

/// The one that is meant: by id, or by a name that no other has.
pub(super) fn find<Id: Copy + fmt::Display + FromStr>(
    kind: &str,
    wanted: &str,
    named: &[(&str, Id)],
) -> Result<Id, CliError> {
    let is_meant = |(name, id): &&(&str, Id)| *name == wanted || id.to_string() == wanted;
    let found: Vec<_> = named.iter().filter(is_meant).collect();
    match found.as_slice() {
        [(_, id)] => Ok(*id),
        [] => Err(CliError::failure(unknown(kind, wanted, named))),
        several => {
            let ids: Vec<_> = several.iter().map(|(_, id)| id.to_string()).collect();
            Err(CliError::failure(format!(
                "{} have the name {wanted:?}; give the id of one of them: {}",
                several.len(),
                ids.join(", ")
            )))
        }
    }
}

fn unknown<Id>(kind: &str, wanted: &str, named: &[(&str, Id)]) -> String {
    let near = nearest(wanted, named.iter().map(|(name, _)| *name));
    match (near, named) {
        (Some(near), _) => format!("there is no {kind} {wanted:?}; did you mean {near:?}?"),
        (None, []) => format!("there is no {kind} {wanted:?}, and no other"),
        (None, _) => format!("there is no {kind} {wanted:?}; there are: {}", names(named)),
    }
}

/// The only API there is, where none was named.
pub(super) fn only<Id: Copy>(named: &[(&str, Id)]) -> Result<Id, CliError> {
    match named {
        [] => Err(CliError::failure("there is no API yet")),
        [(_, id)] => Ok(*id),
        _ => Err(CliError::usage(format!(
            "there are several APIs; name one: {}",
            names(named)
        ))),
    }
}

fn names<Id>(named: &[(&str, Id)]) -> String {
    let quoted = named.iter().map(|(name, _)| format!("{name:?}"));
    quoted.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_when_one_alone_has_it() {
        let id = |n| ApiId::from_uuid(uuid::Uuid::from_u128(n));
        let named = [("orders", id(1)), ("stock", id(2)), ("stock", id(3))];
        let find = |wanted: &str| find("API", wanted, &named).map_err(|error| error.to_string());
        assert_eq!(find("orders"), Ok(id(1)));
        assert_eq!(find(&id(3).to_string()), Ok(id(3)));
        assert!(
            find("ordres")
                .unwrap_err()
                .contains("did you mean \"orders\"?")
        );
        assert!(find("zzz").unwrap_err().contains("there are: \"orders\""));
        assert!(find("stock").unwrap_err().starts_with("2 have the name"));
    }
}
