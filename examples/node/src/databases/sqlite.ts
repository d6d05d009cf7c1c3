import { type Client, LibsqlError, createClient } from "@libsql/client";

import type { Problem } from "../store.js";
import { type Database, type Value, failure, schema } from "./database.js";

export class Sqlite implements Database {
  private constructor(readonly client: Client) {}

  static async open(url: string): Promise<Sqlite> {
    // The driver works on the thread of the event loop: more connections would do no more at once.
    // `timeout`, in milliseconds, is for other programs that write.
    const client = createClient({ url, concurrency: 1, timeout: 2000 });
    await client.executeMultiple(schema("sqlite"));
    return new Sqlite(client);
  }

  async run(sql: string, values: Value[]) {
    const { rows, rowsAffected } = await this.client.execute(sql, values);
    return { rows, changed: rowsAffected };
  }

  problem(error: unknown): Problem {
    if (!(error instanceof LibsqlError)) return failure(error);
    const code = error.extendedCode ?? error.code;
    // The primary key has a code of its own: what else is unique is the email address.
    if (code === "SQLITE_CONSTRAINT_UNIQUE") return { kind: "email address taken", code };
    if (error.code === "SQLITE_BUSY" || error.code === "SQLITE_LOCKED") return { kind: "conflict", code };
    return { kind: "failure", code };
  }

  async close() {
    this.client.close();
  }
}
