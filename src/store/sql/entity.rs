//! The table `users`, as SeaORM sees it: the eleven members of a user.
//!
//! `created_at` and `updated_at` stand beside them in the table; the database fills them in.

use std::fmt;

use sea_orm::{DbErr, FromQueryResult, QueryResult, entity::prelude::*};

use crate::proto::User;

/// A row of `users`.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub(super) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    #[sea_orm(unique)]
    pub email_address: String,
    pub password_hash: Vec<u8>,
    pub password_hash_algorithm_id: String,
    pub password_salt: Vec<u8>,
    pub disabled: bool,
    pub display_name: String,
    pub email_address_counter: i32,
    pub password_hash_counter: i32,
    pub disabled_counter: i32,
    pub sessions_counter: i32,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(super) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A row as the contract's message.
pub(super) struct Row(pub(super) User);

impl FromQueryResult for Row {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self(User {
            id: exact_text(row, prefix, "id")?,
            email_address: exact_text(row, prefix, "email_address")?,
            password_hash: row.try_get::<Vec<u8>>(prefix, "password_hash")?.into(),
            password_hash_algorithm_id: row.try_get(prefix, "password_hash_algorithm_id")?,
            password_salt: row.try_get::<Vec<u8>>(prefix, "password_salt")?.into(),
            disabled: row.try_get(prefix, "disabled")?,
            display_name: row.try_get(prefix, "display_name")?,
            email_address_counter: row.try_get(prefix, "email_address_counter")?,
            password_hash_counter: row.try_get(prefix, "password_hash_counter")?,
            disabled_counter: row.try_get(prefix, "disabled_counter")?,
            sessions_counter: row.try_get(prefix, "sessions_counter")?,
        }))
    }
}

/// Text that is compared byte for byte. On MySQL and MariaDB such a column is VARBINARY (no
/// collation that both have leaves case and trailing spaces alone), and arrives as bytes.
fn exact_text(row: &QueryResult, prefix: &str, column: &str) -> Result<String, DbErr> {
    if row.try_as_mysql_row().is_none() {
        return row.try_get(prefix, column);
    }
    let bytes: Vec<u8> = row.try_get(prefix, column)?;
    // The error would quote the bytes.
    String::from_utf8(bytes).map_err(|_| DbErr::Type(format!("column `{column}` is not UTF-8")))
}
