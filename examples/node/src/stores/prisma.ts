// Prisma on PostgreSQL. Its driver adapter speaks to the database: no engine is downloaded or run.

import { PrismaPg } from "@prisma/adapter-pg";

import { type Postgres, postgresProblem } from "../databases/postgres.js";
import { Prisma, PrismaClient, type User as Row } from "../generated/prisma/client.js";
import type { NewUser, Password, Problem, Store, User } from "../store.js";

export class PrismaStore implements Store {
  private readonly prisma: PrismaClient;

  constructor(private readonly database: Postgres) {
    this.prisma = new PrismaClient({ adapter: new PrismaPg(database.pool) });
  }

  insert(user: NewUser) {
    return this.prisma.user.create({ data: bytes(user) });
  }

  // Not findUnique: it joins look-ups of one moment into one statement, and they fail together.
  async find(id: string) {
    return toUser(await this.prisma.user.findFirst({ where: { id } }));
  }

  async findByEmailAddress(emailAddress: string) {
    return toUser(await this.prisma.user.findFirst({ where: { emailAddress } }));
  }

  // updateMany and deleteMany are one statement each, whose number of rows is the outcome.
  async updateEmailAddress(id: string, emailAddress: string, counter: number) {
    const { count } = await this.prisma.user.updateMany({
      where: { id, emailAddressCounter: counter },
      data: { emailAddress, emailAddressCounter: { increment: 1 } },
    });
    return count;
  }

  async updatePassword(id: string, password: Password, counter: number) {
    const { count } = await this.prisma.user.updateMany({
      where: { id, passwordHashCounter: counter },
      data: { ...bytes(password), passwordHashCounter: { increment: 1 } },
    });
    return count;
  }

  async incrementSessions(id: string, counter: number) {
    const { count } = await this.prisma.user.updateMany({
      where: { id, sessionsCounter: counter },
      data: { sessionsCounter: { increment: 1 } },
    });
    return count;
  }

  async delete(id: string) {
    const { count } = await this.prisma.user.deleteMany({ where: { id } });
    return count;
  }

  problem(error: unknown): Problem {
    if (!(error instanceof Prisma.PrismaClientKnownRequestError)) {
      return this.database.problem(error);
    }
    // Prisma's own codes do not tell all that PostgreSQL's do.
    const cause = (error.meta as Meta | undefined)?.driverAdapterError?.cause;
    return postgresProblem(cause?.originalCode ?? error.code, cause?.constraint?.index);
  }

  async close() {
    await this.prisma.$disconnect();
    await this.database.close();
  }
}

// Prisma's bytes are the arrays of JavaScript, not the buffers of Node.
function bytes<T extends Password>(values: T) {
  return {
    ...values,
    passwordHash: new Uint8Array(values.passwordHash),
    passwordSalt: new Uint8Array(values.passwordSalt),
  };
}

function toUser(row: Row | null): User | undefined {
  if (row === null) return undefined;
  return {
    ...row,
    passwordHash: Buffer.from(row.passwordHash),
    passwordSalt: Buffer.from(row.passwordSalt),
  };
}

interface Meta {
  driverAdapterError?: { cause?: { originalCode?: string; constraint?: { index?: string } } };
}
