// The seven actions: each gives the values of a success, or throws an `ActionError`.

import { randomUUID } from "node:crypto";

export class WrongRequest extends Error {}

export class ActionError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export function actionsOn(database) {
  async function find(sql, key) {
    const [row] = (await database.run(sql, [key])).rows;
    if (row === undefined) throw new ActionError("user_not_found");
    return { user: toUser(row) };
  }

  // No row changed: no such user, or another value of the counter.
  async function changeOne(sql, values) {
    if ((await database.run(sql, values)).changed === 0) throw new ActionError("user_not_found");
    return {};
  }

  return {
    async create_user(given) {
      const id = randomUUID();
      const password = passwordOf(given);
      await database.run(
        `INSERT INTO users (id, email_address, password_hash, password_hash_algorithm_id,
           password_salt, display_name)
         VALUES (?, ?, ?, ?, ?, '')`,
        [id, string(given, "email_address"), ...password],
      );
      const [password_hash, password_hash_algorithm_id, password_salt] = password;
      return {
        user: toUser({
          id,
          email_address: given.email_address,
          password_hash,
          password_hash_algorithm_id,
          password_salt,
          disabled: false,
          display_name: "",
          email_address_counter: 0,
          password_hash_counter: 0,
          disabled_counter: 0,
          sessions_counter: 0,
        }),
      };
    },

    get_user(given) {
      return find("SELECT * FROM users WHERE id = ?", string(given, "user_id"));
    },

    get_user_by_email_address(given) {
      return find("SELECT * FROM users WHERE email_address = ?", string(given, "email_address"));
    },

    update_user_email_address(given) {
      return changeOne(
        `UPDATE users SET email_address = ?, email_address_counter = email_address_counter + 1
         WHERE id = ? AND email_address_counter = ?`,
        [
          string(given, "email_address"),
          string(given, "user_id"),
          int32(given, "user_email_address_counter"),
        ],
      );
    },

    update_user_password_hash(given) {
      return changeOne(
        `UPDATE users SET password_hash = ?, password_hash_algorithm_id = ?, password_salt = ?,
           password_hash_counter = password_hash_counter + 1
         WHERE id = ? AND password_hash_counter = ?`,
        [...passwordOf(given), string(given, "user_id"), int32(given, "user_password_hash_counter")],
      );
    },

    increment_user_sessions_counter(given) {
      return changeOne(
        `UPDATE users SET sessions_counter = sessions_counter + 1
         WHERE id = ? AND sessions_counter = ?`,
        [string(given, "user_id"), int32(given, "user_sessions_counter")],
      );
    },

    delete_user(given) {
      return changeOne("DELETE FROM users WHERE id = ?", [string(given, "user_id")]);
    },
  };
}

function passwordOf(given) {
  return [
    bytes(given, "password_hash"),
    string(given, "password_hash_algorithm_id"),
    bytes(given, "password_salt"),
  ];
}

function string(given, name) {
  if (typeof given[name] !== "string") throw new WrongRequest(`${name} is no string`);
  return given[name];
}

function bytes(given, name) {
  return Buffer.from(string(given, name), "base64");
}

function int32(given, name) {
  if ((given[name] | 0) !== given[name]) throw new WrongRequest(`${name} is no int32`);
  return given[name];
}

// MariaDB's binary text comes as a Buffer, SQLite's bytes as a Uint8Array, and the booleans of both
// as numbers.
function toUser(row) {
  return {
    id: String(row.id),
    email_address: String(row.email_address),
    password_hash: base64(row.password_hash),
    password_hash_algorithm_id: row.password_hash_algorithm_id,
    password_salt: base64(row.password_salt),
    disabled: Boolean(row.disabled),
    display_name: row.display_name,
    email_address_counter: row.email_address_counter,
    password_hash_counter: row.password_hash_counter,
    disabled_counter: row.disabled_counter,
    sessions_counter: row.sessions_counter,
  };
}

function base64({ buffer, byteOffset, byteLength }) {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}
