// Reads the environment, serves, and stops when it is told to.

import { fileURLToPath } from "node:url";

import { Server, ServerCredentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { HealthImplementation } from "grpc-health-check";

import { Mysql } from "./databases/mysql.js";
import { Postgres } from "./databases/postgres.js";
import { Sqlite } from "./databases/sqlite.js";
import type { ProtoGrpcType } from "./generated/user_store.js";
import { userStore } from "./service.js";
import type { Store } from "./store.js";
import { DrizzleMysqlStore } from "./stores/drizzle-mysql.js";
import { DrizzlePostgresStore } from "./stores/drizzle-postgres.js";
import { DrizzleSqliteStore } from "./stores/drizzle-sqlite.js";
import { PrismaStore } from "./stores/prisma.js";
import { SqlStore } from "./stores/sql.js";

const STORES: Record<string, (url: string) => Promise<Store>> = {
  "drizzle-mysql": async (url) => new DrizzleMysqlStore(await Mysql.open(url)),
  "drizzle-postgres": async (url) => new DrizzlePostgresStore(await Postgres.open(url)),
  "drizzle-sqlite": async (url) => new DrizzleSqliteStore(await Sqlite.open(url)),
  "prisma-postgres": async (url) => new PrismaStore(await Postgres.open(url)),
  "sql-mysql": async (url) => new SqlStore(await Mysql.open(url)),
  "sql-postgres": async (url) => new SqlStore(await Postgres.open(url)),
  "sql-sqlite": async (url) => new SqlStore(await Sqlite.open(url)),
};

const SERVICE = "faroe.userstore.v1.UserStore";
// In milliseconds; calls that take longer are cut when the program stops.
const GRACE = 10_000;

// A file of SQLite and a socket are for the user that runs this alone.
process.umask(0o077);

const { STORE = "sql-sqlite", DATABASE_URL = "users.sqlite", LISTEN = "127.0.0.1:50051" } = process.env;
const open = STORES[STORE];
if (open === undefined) fail(`STORE is none of ${Object.keys(STORES).join(", ")}`);
const store = await open(DATABASE_URL).catch((error) => fail(`DATABASE_URL of ${STORE} cannot be used: ${error.code ?? error.name}`));

const proto = fileURLToPath(new URL("../user_store.proto", import.meta.url));
const types = loadPackageDefinition(loadSync(proto, { defaults: true })) as unknown as ProtoGrpcType;
const server = new Server();
server.addService(types.faroe.userstore.v1.UserStore.service, userStore(store));
const health = new HealthImplementation({ "": "SERVING", [SERVICE]: "SERVING" });
health.addToServer(server);

server.bindAsync(LISTEN, ServerCredentials.createInsecure(), (error, port) => {
  if (error) fail(`cannot listen on ${LISTEN}: ${error.message}`);
  console.log(`listening on ${LISTEN.replace(/:\d+$/, `:${port}`)}`);
});
process.once("SIGTERM", stop);
process.once("SIGINT", stop);

// Takes no more calls, waits for those in hand, and lets the program end.
function stop() {
  health.setStatus(SERVICE, "NOT_SERVING");
  const cut = setTimeout(() => server.forceShutdown(), GRACE);
  server.tryShutdown(() => {
    clearTimeout(cut);
    void store.close();
  });
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
