// A user server as people write it for Node: node:https with client certificates, and the usual
// driver of each database. It is measured beside faroe-sidecar.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";

import { ActionError, WrongRequest, actionsOn } from "./actions.mjs";
import { open } from "./databases.mjs";

const ALPHABET = "abcdefghjkmnopqrstuvwxyz23456789";

const { DATABASE_URL, TLS_CERT, TLS_KEY, CLIENT_CA } = process.env;
const database = open(DATABASE_URL);
const actions = actionsOn(database);

const server = createServer(
  {
    cert: readFileSync(TLS_CERT),
    key: readFileSync(TLS_KEY),
    ca: readFileSync(CLIENT_CA),
    requestCert: true,
    rejectUnauthorized: true,
  },
  (request, response) => {
    if (request.method !== "POST") return send(response, 405, { title: "use POST" });
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", async () => {
      const [status, body] = await answer(Buffer.concat(chunks).toString());
      send(response, status, body);
    });
  },
);

server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});

async function answer(body) {
  const action_invocation_id = invocationId();
  try {
    const { action, arguments: given } = JSON.parse(body);
    if (!Object.hasOwn(actions, action)) throw new WrongRequest("no such action");
    const values = await actions[action](Object(given));
    return [200, { ok: true, action_invocation_id, values }];
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof WrongRequest) {
      return [400, { title: error.message }];
    }
    return [200, { ok: false, action_invocation_id, error_code: errorCode(error) }];
  }
}

function errorCode(error) {
  if (error instanceof ActionError) return error.code;
  if (database.isEmailAddressTaken(error)) return "email_address_already_used";
  console.error(error);
  return "internal_error";
}

function invocationId() {
  return Array.from(randomBytes(24), (byte) => ALPHABET[byte & 31]).join("");
}

function send(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}
