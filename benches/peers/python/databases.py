"""The three databases: each runs a statement with a `?` for each value."""

import itertools
import re
import sqlite3
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import aiomysql
import asyncpg

# As many connections as the pools have by default.
CONNECTIONS = 10


class Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> "Sqlite":
        # Looked up at once, without a thread: that takes less time than going to one and back.
        connection = sqlite3.connect(url.removeprefix("sqlite://"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return cls(connection)

    async def find(self, sql: str, key: str) -> Any:
        return self._connection.execute(sql, [key]).fetchone()

    async def change(self, sql: str, values: list[Any]) -> int:
        return self._connection.execute(sql, values).rowcount

    def is_email_address_taken(self, error: Exception) -> bool:
        return str(error) == "UNIQUE constraint failed: users.email_address"


class Postgres:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> "Postgres":
        return cls(await asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS))

    async def find(self, sql: str, key: str) -> Any:
        return await self._pool.fetchrow(numbered(sql), key)

    async def change(self, sql: str, values: list[Any]) -> int:
        # "UPDATE 1"
        return int((await self._pool.execute(numbered(sql), *values)).rpartition(" ")[2])

    def is_email_address_taken(self, error: Exception) -> bool:
        return (
            isinstance(error, asyncpg.UniqueViolationError)
            and error.constraint_name == "users_email_address_key"
        )


@cache
def numbered(sql: str) -> str:
    numbers = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", sql)


class MariaDb:
    def __init__(self, pool: aiomysql.Pool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> "MariaDb":
        place = urlsplit(url)
        return cls(
            await aiomysql.create_pool(
                host=place.hostname,
                port=place.port,
                user=place.username,
                password=place.password,
                db=place.path.removeprefix("/"),
                autocommit=True,
                minsize=CONNECTIONS,
                maxsize=CONNECTIONS,
            )
        )

    async def find(self, sql: str, key: str) -> Any:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(sql.replace("?", "%s"), [key])
            return await cursor.fetchone()

    async def change(self, sql: str, values: list[Any]) -> int:
        async with self._pool.acquire() as connection, connection.cursor() as cursor:
            return await cursor.execute(sql.replace("?", "%s"), values)

    def is_email_address_taken(self, error: Exception) -> bool:
        return error.args[0] == 1062 and "users_email_address_key" in error.args[1]


DATABASES = {"sqlite": Sqlite, "postgres": Postgres, "mysql": MariaDb}


async def open_database(url: str) -> Sqlite | Postgres | MariaDb:
    return await DATABASES[url.partition("://")[0]].open(url)
