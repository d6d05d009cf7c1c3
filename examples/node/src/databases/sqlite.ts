import BetterSqlite from "better-sqlite3";

import type { Problem } from "../store.js";
import { type Database, type Row, type Value, failure, schema } from "./database.js";

const EMAIL_ADDRESS_TAKEN = "UNIQUE constraint failed: users.email_address";

export class Sqlite implements Database {
  private constructor(readonly connection: BetterSqlite.Database) {}

  static async open(file: string): Promise<Sqlite> {
    // In milliseconds. Nothing else happens in this program while it waits for one that writes.
    const connection = new BetterSqlite(file, { timeout: 2000 });
    connection.pragma("journal_mode = WAL");
    // Or a loss of power could undo what was acknowledged.
    connection.pragma("synchronous = FULL");
    connection.exec(schema("sqlite"));
    return new Sqlite(connection);
  }

  async run(sql: string, values: Value[]) {
    const statement = this.connection.prepare<Value[], Row>(sql);
    if (statement.reader) return { rows: statement.all(...values), changed: 0 };
    return { rows: [], changed: statement.run(...values).changes };
  }

  problem(error: unknown): Problem {
    if (!(error instanceof BetterSqlite.SqliteError)) return failure(error);
    const { code } = error;
    // SQLite names the column of a constraint in the message alone.
    if (code === "SQLITE_CONSTRAINT_UNIQUE" && error.message === EMAIL_ADDRESS_TAKEN) {
      return { kind: "email address taken", code };
    }
    if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return { kind: "conflict", code };
    return { kind: "failure", code };
  }

  async close() {
    this.connection.close();
  }
}
