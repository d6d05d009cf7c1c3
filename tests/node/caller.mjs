// Invokes an action as a Faroe server does: with a client certificate.
//
//   node caller.mjs https://localhost:8443/ ca.pem client.pem client.key <invocation.json
import { readFileSync } from "node:fs";
import https from "node:https";

const [url, ca, cert, key] = process.argv.slice(2);
const options = {
  method: "POST",
  ca: readFileSync(ca),
  cert: readFileSync(cert),
  key: readFileSync(key),
  timeout: 10_000,
};
const request = https.request(url, options, (response) => {
  process.stdout.write(`HTTP/${response.httpVersion} ${response.statusCode}\n`);
  response.pipe(process.stdout);
});
request.on("timeout", () => request.destroy(new Error("no answer in time")));
request.end(readFileSync(0));
