// Drizzle on SQLite.

import { and, eq, sql } from "drizzle-orm";
import { type BetterSQLite3Database, drizzle } from "drizzle-orm/better-sqlite3";
import { blob, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";

import type { Sqlite } from "../databases/sqlite.js";
import type { NewUser, Password, Store } from "../store.js";

const users = sqliteTable("users", {
  id: text("id").primaryKey(),
  emailAddress: text("email_address").notNull().unique(),
  passwordHash: blob("password_hash", { mode: "buffer" }).notNull(),
  passwordHashAlgorithmId: text("password_hash_algorithm_id").notNull(),
  passwordSalt: blob("password_salt", { mode: "buffer" }).notNull(),
  disabled: integer("disabled", { mode: "boolean" }).notNull().default(false),
  displayName: text("display_name").notNull().default(""),
  emailAddressCounter: integer("email_address_counter").notNull().default(0),
  passwordHashCounter: integer("password_hash_counter").notNull().default(0),
  disabledCounter: integer("disabled_counter").notNull().default(0),
  sessionsCounter: integer("sessions_counter").notNull().default(0),
});

export class DrizzleSqliteStore implements Store {
  private readonly db: BetterSQLite3Database;

  constructor(private readonly database: Sqlite) {
    this.db = drizzle(database.connection);
  }

  insert(user: NewUser) {
    return this.db.insert(users).values(user);
  }

  async find(id: string) {
    const [user] = await this.db.select().from(users).where(eq(users.id, id));
    return user;
  }

  async findByEmailAddress(emailAddress: string) {
    const [user] = await this.db.select().from(users).where(eq(users.emailAddress, emailAddress));
    return user;
  }

  async updateEmailAddress(id: string, emailAddress: string, counter: number) {
    const { changes } = await this.db
      .update(users)
      .set({ emailAddress, emailAddressCounter: sql`${users.emailAddressCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.emailAddressCounter, counter)));
    return changes;
  }

  async updatePassword(id: string, password: Password, counter: number) {
    const { changes } = await this.db
      .update(users)
      .set({ ...password, passwordHashCounter: sql`${users.passwordHashCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.passwordHashCounter, counter)));
    return changes;
  }

  async incrementSessions(id: string, counter: number) {
    const { changes } = await this.db
      .update(users)
      .set({ sessionsCounter: sql`${users.sessionsCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.sessionsCounter, counter)));
    return changes;
  }

  async delete(id: string) {
    const { changes } = await this.db.delete(users).where(eq(users.id, id));
    return changes;
  }

  problem(error: unknown) {
    return this.database.problem(error);
  }

  close() {
    return this.database.close();
  }
}
