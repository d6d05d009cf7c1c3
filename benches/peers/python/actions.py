"""The seven actions: each gives the values of a success, or raises an `ActionError`."""

import base64
import uuid
from typing import Any

COLUMNS = (
    "id, email_address, password_hash, password_hash_algorithm_id, password_salt, disabled, "
    "display_name, email_address_counter, password_hash_counter, disabled_counter, "
    "sessions_counter"
)


class WrongRequest(Exception):
    pass


class ActionError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Actions:
    def __init__(self, database: Any) -> None:
        self._database = database
        self.by_name = {
            action.__name__: action
            for action in (
                self.create_user,
                self.get_user,
                self.get_user_by_email_address,
                self.update_user_email_address,
                self.update_user_password_hash,
                self.increment_user_sessions_counter,
                self.delete_user,
            )
        }

    async def create_user(self, given: dict[str, Any]) -> dict[str, Any]:
        user_id = str(uuid.uuid4())
        email_address = string(given, "email_address")
        password = password_of(given)
        await self._database.change(
            """INSERT INTO users (id, email_address, password_hash, password_hash_algorithm_id,
                 password_salt, display_name)
               VALUES (?, ?, ?, ?, ?, '')""",
            [user_id, email_address, *password],
        )
        return {"user": to_user((user_id, email_address, *password, False, "", 0, 0, 0, 0))}

    async def get_user(self, given: dict[str, Any]) -> dict[str, Any]:
        return await self._find(f"SELECT {COLUMNS} FROM users WHERE id = ?", string(given, "user_id"))

    async def get_user_by_email_address(self, given: dict[str, Any]) -> dict[str, Any]:
        return await self._find(
            f"SELECT {COLUMNS} FROM users WHERE email_address = ?", string(given, "email_address")
        )

    async def update_user_email_address(self, given: dict[str, Any]) -> dict[str, Any]:
        return await self._change_one(
            """UPDATE users SET email_address = ?, email_address_counter = email_address_counter + 1
               WHERE id = ? AND email_address_counter = ?""",
            [
                string(given, "email_address"),
                string(given, "user_id"),
                int32(given, "user_email_address_counter"),
            ],
        )

    async def update_user_password_hash(self, given: dict[str, Any]) -> dict[str, Any]:
        return await self._change_one(
            """UPDATE users SET password_hash = ?, password_hash_algorithm_id = ?,
                 password_salt = ?, password_hash_counter = password_hash_counter + 1
               WHERE id = ? AND password_hash_counter = ?""",
            [
                *password_of(given),
                string(given, "user_id"),
                int32(given, "user_password_hash_counter"),
            ],
        )

    async def increment_user_sessions_counter(self, given: dict[str, Any]) -> dict[str, Any]:
        return await self._change_one(
            """UPDATE users SET sessions_counter = sessions_counter + 1
               WHERE id = ? AND sessions_counter = ?""",
            [string(given, "user_id"), int32(given, "user_sessions_counter")],
        )

    async def delete_user(self, given: dict[str, Any]) -> dict[str, Any]:
        return await self._change_one("DELETE FROM users WHERE id = ?", [string(given, "user_id")])

    async def _find(self, sql: str, key: str) -> dict[str, Any]:
        row = await self._database.find(sql, key)
        if row is None:
            raise ActionError("user_not_found")
        return {"user": to_user(row)}

    async def _change_one(self, sql: str, values: list[Any]) -> dict[str, Any]:
        # No row changed: no such user, or another value of the counter.
        if await self._database.change(sql, values) == 0:
            raise ActionError("user_not_found")
        return {}


def password_of(given: dict[str, Any]) -> tuple[bytes, str, bytes]:
    return (
        base64.b64decode(string(given, "password_hash"), validate=True),
        string(given, "password_hash_algorithm_id"),
        base64.b64decode(string(given, "password_salt"), validate=True),
    )


def string(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise WrongRequest(f"{name} is no string")
    return value


def int32(given: dict[str, Any], name: str) -> int:
    value = given.get(name)
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise WrongRequest(f"{name} is no int32")
    return value


def text(value: str | bytes) -> str:
    """MariaDB's binary text comes as bytes."""
    return value.decode() if isinstance(value, bytes) else value


def to_user(row: Any) -> dict[str, Any]:
    return {
        "id": text(row[0]),
        "email_address": text(row[1]),
        "password_hash": base64.b64encode(row[2]).decode(),
        "password_hash_algorithm_id": row[3],
        "password_salt": base64.b64encode(row[4]).decode(),
        "disabled": bool(row[5]),
        "display_name": row[6],
        "email_address_counter": row[7],
        "password_hash_counter": row[8],
        "disabled_counter": row[9],
        "sessions_counter": row[10],
    }
