import mysql from "mysql2/promise";

import type { Problem } from "../store.js";
import { type Database, type Value, failure, schema } from "./database.js";

// Strict, or values would be cut; nothing else, or backslashes could lose the meaning that the
// driver gives them. Each statement commits by itself, and waits for a lock for 4 seconds.
const SESSION =
  "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = 4";

// "Duplicate entry 'VALUE' for key 'KEY'": the value is a stranger's, so only the end counts.
const EMAIL_ADDRESS_KEY = / for key '(users\.)?users_email_address_key'$/;

export class Mysql implements Database {
  private constructor(readonly pool: mysql.Pool) {}

  static async open(url: string): Promise<Mysql> {
    const pool = mysql.createPool({ uri: url, connectTimeout: 4000, queueLimit: 1000 });
    // Runs before the statement that the connection was made for.
    pool.pool.on("connection", (connection) => {
      connection.query(SESSION, (error) => {
        if (error) connection.destroy();
      });
    });
    await pool.query(schema("mysql"));
    return new Mysql(pool);
  }

  async run(sql: string, values: Value[]) {
    type Result = mysql.RowDataPacket[] | mysql.ResultSetHeader;
    const [result] = await this.pool.execute<Result>(sql, values);
    if (Array.isArray(result)) return { rows: result, changed: 0 };
    return { rows: [], changed: result.affectedRows };
  }

  problem(error: unknown): Problem {
    const { errno, code, sqlMessage } = Object(error) as ServerError;
    if (sqlMessage === undefined || code === undefined) return failure(error);
    switch (errno) {
      case 1062: // ER_DUP_ENTRY, of the primary key perhaps
        if (EMAIL_ADDRESS_KEY.test(sqlMessage)) return { kind: "email address taken", code };
        return { kind: "failure", code };
      case 1020: // ER_CHECKREAD
      case 1205: // ER_LOCK_WAIT_TIMEOUT
      case 1213: // ER_LOCK_DEADLOCK
        return { kind: "conflict", code };
      default:
        return { kind: "failure", code };
    }
  }

  async close() {
    await this.pool.end();
  }
}

interface ServerError {
  errno?: number;
  code?: string;
  sqlMessage?: string;
}
