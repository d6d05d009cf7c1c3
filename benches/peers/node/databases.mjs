// The three databases: each runs a statement with a `?` for each value, prepared once.

import mysql from "mysql2/promise";
import { DatabaseSync } from "node:sqlite";
import pg from "pg";

// As many connections as the pools of both packages have by default.
const CONNECTIONS = 10;

export function open(url) {
  if (url.startsWith("sqlite://")) return sqlite(url.slice("sqlite://".length));
  if (url.startsWith("postgres://")) return postgres(url);
  return mariadb(url);
}

function sqlite(file) {
  const database = new DatabaseSync(file, { timeout: 2000 });
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  const statements = new Map();
  return {
    async run(sql, values) {
      let statement = statements.get(sql);
      if (statement === undefined) statements.set(sql, (statement = database.prepare(sql)));
      if (sql.startsWith("SELECT")) return { rows: statement.all(...values), changed: 0 };
      return { rows: [], changed: statement.run(...values).changes };
    },
    // SQLite names the column of a constraint in the message alone.
    isEmailAddressTaken: (error) =>
      error.message === "UNIQUE constraint failed: users.email_address",
  };
}

function postgres(url) {
  const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS });
  pool.on("error", (error) => console.error(`idle connection lost: ${error.code}`));
  const statements = new Map();
  return {
    async run(sql, values) {
      let statement = statements.get(sql);
      if (statement === undefined) {
        let number = 0;
        const text = sql.replaceAll("?", () => `$${++number}`);
        statements.set(sql, (statement = { name: `s${statements.size}`, text }));
      }
      const { rows, rowCount } = await pool.query({ ...statement, values });
      return { rows, changed: rowCount };
    },
    isEmailAddressTaken: (error) =>
      error.code === "23505" && error.constraint === "users_email_address_key",
  };
}

function mariadb(url) {
  const pool = mysql.createPool({ uri: url, connectionLimit: CONNECTIONS });
  return {
    async run(sql, values) {
      const [result] = await pool.execute(sql, values);
      if (Array.isArray(result)) return { rows: result, changed: 0 };
      return { rows: [], changed: result.affectedRows };
    },
    isEmailAddressTaken: (error) =>
      error.errno === 1062 && error.sqlMessage.includes("users_email_address_key"),
  };
}
