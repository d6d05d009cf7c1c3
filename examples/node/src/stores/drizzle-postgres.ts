// Drizzle on PostgreSQL.

import { DrizzleQueryError, and, eq, sql } from "drizzle-orm";
import { type NodePgDatabase, drizzle } from "drizzle-orm/node-postgres";
import { boolean, customType, integer, pgTable, text } from "drizzle-orm/pg-core";

import type { Postgres } from "../databases/postgres.js";
import type { NewUser, Password, Store } from "../store.js";

const bytea = customType<{ data: Buffer }>({ dataType: () => "bytea" });

const users = pgTable("users", {
  id: text("id").primaryKey(),
  emailAddress: text("email_address").notNull().unique(),
  passwordHash: bytea("password_hash").notNull(),
  passwordHashAlgorithmId: text("password_hash_algorithm_id").notNull(),
  passwordSalt: bytea("password_salt").notNull(),
  disabled: boolean("disabled").notNull().default(false),
  displayName: text("display_name").notNull().default(""),
  emailAddressCounter: integer("email_address_counter").notNull().default(0),
  passwordHashCounter: integer("password_hash_counter").notNull().default(0),
  disabledCounter: integer("disabled_counter").notNull().default(0),
  sessionsCounter: integer("sessions_counter").notNull().default(0),
});

export class DrizzlePostgresStore implements Store {
  private readonly db: NodePgDatabase;

  constructor(private readonly database: Postgres) {
    this.db = drizzle(database.pool);
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
    const { rowCount } = await this.db
      .update(users)
      .set({ emailAddress, emailAddressCounter: sql`${users.emailAddressCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.emailAddressCounter, counter)));
    return rowCount ?? 0;
  }

  async updatePassword(id: string, password: Password, counter: number) {
    const { rowCount } = await this.db
      .update(users)
      .set({ ...password, passwordHashCounter: sql`${users.passwordHashCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.passwordHashCounter, counter)));
    return rowCount ?? 0;
  }

  async incrementSessions(id: string, counter: number) {
    const { rowCount } = await this.db
      .update(users)
      .set({ sessionsCounter: sql`${users.sessionsCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.sessionsCounter, counter)));
    return rowCount ?? 0;
  }

  async delete(id: string) {
    const { rowCount } = await this.db.delete(users).where(eq(users.id, id));
    return rowCount ?? 0;
  }

  problem(error: unknown) {
    // Drizzle puts the values into the message of its own error; the driver's is inside.
    return this.database.problem(error instanceof DrizzleQueryError ? error.cause : error);
  }

  close() {
    return this.database.close();
  }
}
