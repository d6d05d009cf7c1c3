import pg from "pg";

import type { Problem } from "../store.js";
import { type Database, type Value, failure, schema } from "./database.js";

const EMAIL_ADDRESS_KEY = "users_email_address_key";

export class Postgres implements Database {
  private constructor(readonly pool: pg.Pool) {}

  static async open(url: string): Promise<Postgres> {
    const pool = new pg.Pool({
      connectionString: url,
      // In milliseconds. Nobody waits for longer: the sidecar's default for a whole call is 5 s.
      connectionTimeoutMillis: 4000,
      lock_timeout: 4000,
      statement_timeout: 5000,
    });
    // A connection that breaks while nobody uses it would otherwise end the program.
    pool.on("error", (error) => console.error(`idle connection lost: ${failure(error).code}`));
    await pool.query(schema("postgres"));
    return new Postgres(pool);
  }

  async run(sql: string, values: Value[]) {
    let number = 0;
    const numbered = sql.replaceAll("?", () => `$${++number}`);
    const { rows, rowCount } = await this.pool.query(numbered, values);
    return { rows, changed: rowCount ?? 0 };
  }

  problem(error: unknown): Problem {
    if (!(error instanceof pg.DatabaseError)) return failure(error);
    return postgresProblem(error.code ?? "unknown", error.constraint);
  }

  async close() {
    await this.pool.end();
  }
}

export function postgresProblem(code: string, constraint: string | undefined): Problem {
  switch (code) {
    case "23505": // unique_violation, of the primary key perhaps
      if (constraint === EMAIL_ADDRESS_KEY) return { kind: "email address taken", code };
      return { kind: "failure", code };
    case "40001": // serialization_failure
    case "40P01": // deadlock_detected
    case "55P03": // lock_not_available
      return { kind: "conflict", code };
    default:
      return { kind: "failure", code };
  }
}
