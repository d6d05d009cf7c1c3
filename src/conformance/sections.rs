//! Where the contract says what a case demands.

pub(super) const MESSAGES: &str = "user-store, Messages";
pub(super) const ERRORS: &str = "user-store, Errors";
pub(super) const CHECKS: &str = "user-store, What the sidecar checks in a reply";
pub(super) const OBLIGATIONS: &str = "user-store, Obligations of an implementation";
pub(super) const USER: &str = "faroe-endpoint, 2. The user";
pub(super) const ACTIONS: &str = "faroe-endpoint, 3. The seven actions";
pub(super) const COST: &str = "faroe-endpoint, 4. What a wrong answer costs";
