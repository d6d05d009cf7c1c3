import { readFileSync } from "node:fs";

import type { Problem } from "../store.js";

// A database that is open and has its table.
export interface Database {
  // Runs a statement with a `?` for each value.
  run(sql: string, values: Value[]): Promise<{ rows: Row[]; changed: number }>;
  problem(error: unknown): Problem;
  close(): Promise<void>;
}

export type Value = string | number | Buffer;
export type Row = Record<string, unknown>;

export function schema(database: string): string {
  return readFileSync(new URL(`../../schema/${database}.sql`, import.meta.url), "utf8");
}

// For what is no error of a database, such as a connection that was refused.
export function failure(error: unknown): Problem {
  const { code, name } = Object(error) as { code?: string; name?: string };
  return { kind: "failure", code: code ?? name ?? "unknown" };
}
