"""Serves the users of a database as a faroe.userstore.v1.UserStore.

This file is the program around the store, which is in store.py.
"""

import asyncio
import logging
import os
import signal
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from sqlalchemy import URL, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import user_store_pb2
import user_store_pb2_grpc
from store import UserStore, create_table


def open_database(url: URL) -> AsyncEngine:
    # hide_parameters: no message of SQLAlchemy shows values.
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url, hide_parameters=True, pool_pre_ping=True)
    # Each waits so many seconds for the one that writes. The sidecar's default for a whole call is
    # 5 s: what it should hear is ABORTED, and not its own clock.
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": 4})

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection, _record):  # type: ignore[no-untyped-def]
        cursor = connection.cursor()
        # Reads do not wait for writes; a write is on the disk before it is acknowledged.
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    return engine


async def serve(database_url: str, listen: str) -> None:
    engine = open_database(make_url(database_url))
    await create_table(engine)

    # Without so_reuseport 0 two programs could listen on one port, each with half of the calls.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    user_store_pb2_grpc.add_UserStoreServicer_to_server(UserStore(engine), server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    service = user_store_pb2.DESCRIPTOR.services_by_name["UserStore"].full_name
    await status.set(service, health_pb2.HealthCheckResponse.SERVING)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = server.add_insecure_port(listen)
    await server.start()
    if not listen.startswith("unix:"):
        listen = f"{listen.rpartition(':')[0]}:{port}"
    print("listening on", listen, flush=True)

    await stop.wait()
    await status.enter_graceful_shutdown()  # no longer serving, for those who watch
    await server.stop(grace=10)  # the calls in hand finish
    await engine.dispose()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit(
            "DATABASE_URL is not set: postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
            " or sqlite+aiosqlite:///FILE"
        )
    asyncio.run(serve(url, os.environ.get("LISTEN", "127.0.0.1:50051")))
