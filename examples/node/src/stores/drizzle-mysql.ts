// Drizzle on MySQL and MariaDB.

import { DrizzleQueryError, and, eq, sql } from "drizzle-orm";
import { type MySql2Database, drizzle } from "drizzle-orm/mysql2";
import { boolean, customType, int, longtext, mysqlTable, varbinary } from "drizzle-orm/mysql-core";

import type { Mysql } from "../databases/mysql.js";
import type { NewUser, Password, Store } from "../store.js";

const longblob = customType<{ data: Buffer }>({ dataType: () => "longblob" });

const users = mysqlTable("users", {
  id: varbinary("id", { length: 255 }).primaryKey(),
  emailAddress: varbinary("email_address", { length: 3072 }).notNull().unique(),
  passwordHash: longblob("password_hash").notNull(),
  passwordHashAlgorithmId: longtext("password_hash_algorithm_id").notNull(),
  passwordSalt: longblob("password_salt").notNull(),
  disabled: boolean("disabled").notNull().default(false),
  displayName: longtext("display_name").notNull().$default(() => ""),
  emailAddressCounter: int("email_address_counter").notNull().default(0),
  passwordHashCounter: int("password_hash_counter").notNull().default(0),
  disabledCounter: int("disabled_counter").notNull().default(0),
  sessionsCounter: int("sessions_counter").notNull().default(0),
});

export class DrizzleMysqlStore implements Store {
  private readonly db: MySql2Database;

  constructor(private readonly database: Mysql) {
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
    const [{ affectedRows }] = await this.db
      .update(users)
      .set({ emailAddress, emailAddressCounter: sql`${users.emailAddressCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.emailAddressCounter, counter)));
    return affectedRows;
  }

  async updatePassword(id: string, password: Password, counter: number) {
    const [{ affectedRows }] = await this.db
      .update(users)
      .set({ ...password, passwordHashCounter: sql`${users.passwordHashCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.passwordHashCounter, counter)));
    return affectedRows;
  }

  async incrementSessions(id: string, counter: number) {
    const [{ affectedRows }] = await this.db
      .update(users)
      .set({ sessionsCounter: sql`${users.sessionsCounter} + 1` })
      .where(and(eq(users.id, id), eq(users.sessionsCounter, counter)));
    return affectedRows;
  }

  async delete(id: string) {
    const [{ affectedRows }] = await this.db.delete(users).where(eq(users.id, id));
    return affectedRows;
  }

  problem(error: unknown) {
    // Drizzle puts the values into the message of its own error; the driver's is inside.
    return this.database.problem(error instanceof DrizzleQueryError ? error.cause : error);
  }

  close() {
    return this.database.close();
  }
}
