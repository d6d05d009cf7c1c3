"""A user server as people write it for asyncio: aiohttp on uvloop with client certificates, and
the usual driver of each database. It is measured beside faroe-sidecar."""

import asyncio
import json
import logging
import os
import secrets
import ssl
from typing import Any

import uvloop
from aiohttp import web

from actions import ActionError, Actions, WrongRequest
from databases import open_database

ALPHABET = "abcdefghjkmnopqrstuvwxyz23456789"


def invocation_id() -> str:
    return "".join([ALPHABET[byte & 31] for byte in secrets.token_bytes(24)])


def response(status: int, body: dict[str, Any]) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return web.Response(status=status, text=text, content_type="application/json")


async def main() -> None:
    database = await open_database(os.environ["DATABASE_URL"])
    actions = Actions(database).by_name

    async def answer(request: web.Request) -> web.Response:
        action_invocation_id = invocation_id()
        try:
            invocation = json.loads(await request.read())
            action = actions.get(invocation["action"])
            if action is None:
                raise WrongRequest("no such action")
            values = await action(invocation["arguments"])
        except (ValueError, KeyError, TypeError, WrongRequest) as error:
            return response(400, {"title": str(error)})
        except Exception as error:
            code = error_code(error)
            failed = {
                "ok": False,
                "action_invocation_id": action_invocation_id,
                "error_code": code,
            }
            return response(200, failed)
        done = {"ok": True, "action_invocation_id": action_invocation_id, "values": values}
        return response(200, done)

    def error_code(error: Exception) -> str:
        if isinstance(error, ActionError):
            return error.code
        if database.is_email_address_taken(error):
            return "email_address_already_used"
        logging.error("statement failed: %s", type(error).__name__)
        return "internal_error"

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=os.environ["CLIENT_CA"])
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"listening on {host}:{port}", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
