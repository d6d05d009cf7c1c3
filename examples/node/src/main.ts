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
import { SqlStore } from "./stores/sql.js";

// Each is loaded when it is chosen: no start waits for what it does not use.
const STORES: Record<string, (url: string) => Promise<Store>> = {
  "drizzle-mysql": async (url) => {
    const { DrizzleMysqlStore } = await import("./stores/drizzle-mysql.js");
    return new DrizzleMysqlStore(await Mysql.open(url));
  },
  "drizzle-postgres": async (url) => {
    const { DrizzlePostgresStore } = await import("./stores/drizzle-postgres.js");
    return new DrizzlePostgresStore(await Postgres.open(url));
  },
  "drizzle-sqlite": async (file) => {
    const { DrizzleSqliteStore } = await import("./stores/drizzle-sqlite.js");
    return new DrizzleSqliteStore(await Sqlite.open(file));
  },
  "prisma-postgres": async (url) => {
    const { PrismaStore } = await import("./stores/prisma.js");
    return new PrismaStore(await Postgres.open(url));
  },
  "sql-mysql": async (url) => new SqlStore(await Mysql.open(url)),
  "sql-postgres": async (url) => new SqlStore(await Postgres.open(url)),
  "sql-sqlite": async (file) => new SqlStore(await Sqlite.open(file)),
};

const SERVICE = "faroe.userstore.v1.UserStore";
// In milliseconds; calls that take longer are cut when the program stops.
const GRACE = 10_000;

// A file of SQLite and a socket are for the user that runs this alone.
process.umask(0o077);

const { STORE = "sql-sqlite", DATABASE_URL = "users.sqlite" } = process.env;
const { LISTEN = "127.0.0.1:50051" } = process.env;

const open = STORES[STORE];
if (open === undefined) fail(`STORE is none of ${Object.keys(STORES).join(", ")}`);
const store = await open(DATABASE_URL).catch((error) => {
  fail(`${STORE} cannot use DATABASE_URL: ${error.code ?? error.message}`);
});

const proto = fileURLToPath(new URL("../user_store.proto", import.meta.url));
const definition = loadPackageDefinition(loadSync(proto, { defaults: true }));
const { faroe } = definition as unknown as ProtoGrpcType;
const server = new Server();
server.addService(faroe.userstore.v1.UserStore.service, userStore(store));
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
