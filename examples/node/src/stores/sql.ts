// Plain SQL, which is the same for the three databases.

import type { Database, Row, Value } from "../databases/database.js";
import type { NewUser, Password, Store, User } from "../store.js";

export class SqlStore implements Store {
  constructor(private readonly database: Database) {}

  insert(user: NewUser) {
    return this.changed(
      `INSERT INTO users (id, email_address, password_hash, password_hash_algorithm_id,
         password_salt, display_name)
       VALUES (?, ?, ?, ?, ?, '')`,
      [
        user.id,
        user.emailAddress,
        user.passwordHash,
        user.passwordHashAlgorithmId,
        user.passwordSalt,
      ],
    );
  }

  find(id: string) {
    return this.user("SELECT * FROM users WHERE id = ?", id);
  }

  findByEmailAddress(emailAddress: string) {
    return this.user("SELECT * FROM users WHERE email_address = ?", emailAddress);
  }

  updateEmailAddress(id: string, emailAddress: string, counter: number) {
    return this.changed(
      `UPDATE users SET email_address = ?, email_address_counter = email_address_counter + 1
       WHERE id = ? AND email_address_counter = ?`,
      [emailAddress, id, counter],
    );
  }

  updatePassword(id: string, password: Password, counter: number) {
    return this.changed(
      `UPDATE users SET password_hash = ?, password_hash_algorithm_id = ?, password_salt = ?,
         password_hash_counter = password_hash_counter + 1
       WHERE id = ? AND password_hash_counter = ?`,
      [password.passwordHash, password.passwordHashAlgorithmId, password.passwordSalt, id, counter],
    );
  }

  incrementSessions(id: string, counter: number) {
    return this.changed(
      `UPDATE users SET sessions_counter = sessions_counter + 1
       WHERE id = ? AND sessions_counter = ?`,
      [id, counter],
    );
  }

  delete(id: string) {
    return this.changed("DELETE FROM users WHERE id = ?", [id]);
  }

  problem(error: unknown) {
    return this.database.problem(error);
  }

  close() {
    return this.database.close();
  }

  private async changed(sql: string, values: Value[]): Promise<number> {
    return (await this.database.run(sql, values)).changed;
  }

  private async user(sql: string, value: string): Promise<User | undefined> {
    const [row] = (await this.database.run(sql, [value])).rows;
    return row && toUser(row);
  }
}

// MySQL's binary text comes as a Buffer, and the booleans of two databases as numbers.
function toUser(row: Row): User {
  return {
    id: String(row.id),
    emailAddress: String(row.email_address),
    passwordHash: row.password_hash as Buffer,
    passwordHashAlgorithmId: String(row.password_hash_algorithm_id),
    passwordSalt: row.password_salt as Buffer,
    disabled: Boolean(row.disabled),
    displayName: String(row.display_name),
    emailAddressCounter: Number(row.email_address_counter),
    passwordHashCounter: Number(row.password_hash_counter),
    disabledCounter: Number(row.disabled_counter),
    sessionsCounter: Number(row.sessions_counter),
  };
}
