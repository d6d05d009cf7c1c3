//! The table `users`, as SeaORM sees it: the eleven members of a user.
//!
//! `created_at` and `updated_at` stand beside them in the table; the database fills them in.

use std::fmt;

use sea_orm::{
    ActiveValue::Set, DbErr, IdenStatic as _, Iterable as _, QueryResult, TryGetable,
    entity::prelude::*,
};

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

/// A row of [`Entity::find`] as the contract's message.
pub(super) fn user(row: &QueryResult) -> Result<User, DbErr> {
    // By place: the names would be looked up for each row.
    Ok(User {
        id: exact_text(row, Column::Id)?,
        email_address: exact_text(row, Column::EmailAddress)?,
        password_hash: value::<Vec<u8>>(row, Column::PasswordHash)?.into(),
        password_hash_algorithm_id: value(row, Column::PasswordHashAlgorithmId)?,
        password_salt: value::<Vec<u8>>(row, Column::PasswordSalt)?.into(),
        disabled: value(row, Column::Disabled)?,
        display_name: value(row, Column::DisplayName)?,
        email_address_counter: value(row, Column::EmailAddressCounter)?,
        password_hash_counter: value(row, Column::PasswordHashCounter)?,
        disabled_counter: value(row, Column::DisabledCounter)?,
        sessions_counter: value(row, Column::SessionsCounter)?,
    })
}

/// The contract's message as a row, with a value for each column.
pub(super) fn row(user: &User) -> ActiveModel {
    ActiveModel {
        id: Set(user.id.clone()),
        email_address: Set(user.email_address.clone()),
        password_hash: Set(user.password_hash.to_vec()),
        password_hash_algorithm_id: Set(user.password_hash_algorithm_id.clone()),
        password_salt: Set(user.password_salt.to_vec()),
        disabled: Set(user.disabled),
        display_name: Set(user.display_name.clone()),
        email_address_counter: Set(user.email_address_counter),
        password_hash_counter: Set(user.password_hash_counter),
        disabled_counter: Set(user.disabled_counter),
        sessions_counter: Set(user.sessions_counter),
    }
}

/// The values of a row, in the order of the columns.
pub(super) fn values(mut row: ActiveModel) -> impl Iterator<Item = Value> {
    Column::iter().filter_map(move |column| row.take(column).into_value())
}

/// The columns are selected in the order of the entity.
fn value<T: TryGetable>(row: &QueryResult, column: Column) -> Result<T, DbErr> {
    row.try_get_by_index(column as usize)
}

/// Text that is compared byte for byte. On MySQL and MariaDB such a column is VARBINARY (no
/// collation that both have leaves case and trailing spaces alone), and arrives as bytes.
fn exact_text(row: &QueryResult, column: Column) -> Result<String, DbErr> {
    if row.try_as_mysql_row().is_none() {
        return value(row, column);
    }
    // The error would quote the bytes.
    String::from_utf8(value(row, column)?)
        .map_err(|_| DbErr::Type(format!("column `{}` is not UTF-8", column.as_str())))
}

#[cfg(test)]
mod tests {
    use sea_orm::{DbBackend, QueryTrait as _, Statement};

    use super::*;

    #[test]
    fn a_statement_that_is_built_once_takes_the_values_of_any_user() {
        let user = User {
            id: "id".to_owned(),
            email_address: "email address".to_owned(),
            password_hash: b"hash".as_slice().into(),
            password_hash_algorithm_id: "algorithm".to_owned(),
            password_salt: b"salt".as_slice().into(),
            disabled: true,
            display_name: "name".to_owned(),
            email_address_counter: 1,
            password_hash_counter: 2,
            disabled_counter: 3,
            sessions_counter: 4,
        };
        let nobody = User::default();
        for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
            let insert = |user| Entity::insert(row(user)).build(backend);
            let once = insert(&nobody).sql;
            let with_values = Statement::from_sql_and_values(backend, once, values(row(&user)));
            assert_eq!(with_values, insert(&user));
        }
    }
}
