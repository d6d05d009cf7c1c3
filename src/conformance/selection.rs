//! Which cases run.

use thiserror::Error;

use super::{Case, cases};

/// Which cases run: all, or `only` these, but those to `skip`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    only: Vec<String>,
    skip: Vec<String>,
}

/// A name that is neither the ID of a case nor a group of them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no case or group {0:?}: --list shows them")]
pub struct UnknownCase(String);

impl Selection {
    /// Every case.
    pub fn all() -> Self {
        Self::default()
    }

    /// The cases of `only`, all if it is empty, without those of `skip`. Each name is the ID of a
    /// case, or a group: what the IDs have before their dot.
    ///
    /// # Errors
    ///
    /// If there is no such case or group.
    pub fn new(only: Vec<String>, skip: Vec<String>) -> Result<Self, UnknownCase> {
        for name in only.iter().chain(&skip) {
            if !cases().any(|case| names(name, case)) {
                return Err(UnknownCase(name.clone()));
            }
        }
        Ok(Self { only, skip })
    }

    /// The names that are left out by name, of cases or groups.
    pub fn skipped(&self) -> &[String] {
        &self.skip
    }

    /// Whether a case runs.
    pub fn takes(&self, case: &Case) -> bool {
        let any = |list: &[String]| list.iter().any(|name| names(name, case));
        (self.only.is_empty() || any(&self.only)) && !any(&self.skip)
    }
}

fn names(name: &str, case: &Case) -> bool {
    name == case.id || name == case.group()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection::new(list(only), list(skip)).unwrap();
        cases().filter(|case| selection.takes(case)).map(|case| case.id).collect()
    }

    #[test]
    fn a_name_is_a_case_or_a_group() {
        assert_eq!(taken(&[], &[]).len(), cases().count());
        assert_eq!(taken(&["create.defaults"], &[]), ["create.defaults"]);
        let all = taken(&["delete"], &[]);
        assert!(all.len() > 3 && all.iter().all(|id| id.starts_with("delete.")));
        assert_eq!(taken(&["delete"], &["delete.twice"]).len(), all.len() - 1);
        assert_eq!(taken(&[], &["delete"]).len(), cases().count() - all.len());
        for name in ["delet", "delete.", "delete.thrice", ""] {
            let error = Selection::new(vec![name.to_owned()], Vec::new()).unwrap_err();
            assert_eq!(error, UnknownCase(name.to_owned()));
        }
    }
}
