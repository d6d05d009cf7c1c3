"""Users in a database, by SQLAlchemy.

Each call is one statement, which the database makes atomic by itself: a unique
constraint decides whether an email address is free, and the WHERE of an update
whether a counter still has its value.
"""

import logging
import secrets
from typing import Any, NoReturn

import grpc
from grpc.aio import ServicerContext
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Executable,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateTable

from user_store_pb2 import (
    CreateUserRequest,
    CreateUserResponse,
    DeleteUserRequest,
    DeleteUserResponse,
    GetUserByEmailAddressRequest,
    GetUserByEmailAddressResponse,
    GetUserRequest,
    GetUserResponse,
    IncrementUserSessionsCounterRequest,
    IncrementUserSessionsCounterResponse,
    UpdateUserEmailAddressRequest,
    UpdateUserEmailAddressResponse,
    UpdateUserPasswordHashRequest,
    UpdateUserPasswordHashResponse,
    User,
)
from user_store_pb2_grpc import UserStoreServicer

logger = logging.getLogger("userstore")


def byte_exact() -> Text:
    """Text that is compared byte for byte: SQLite's own way, on PostgreSQL that of "C"."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def counter(name: str) -> Column[int]:
    """A counter of 32 bits. SQLite's integers have 64: there the check ends it."""
    return Column(
        name,
        Integer,
        CheckConstraint(f"{name} BETWEEN 0 AND 2147483647"),
        nullable=False,
        server_default="0",
    )


# The columns have the names of the fields of the message User.
users = Table(
    "users",
    MetaData(),
    Column("id", byte_exact(), CheckConstraint("id <> ''"), primary_key=True),
    Column("email_address", byte_exact(), nullable=False),
    Column("password_hash", LargeBinary, nullable=False),
    Column("password_hash_algorithm_id", Text, nullable=False),
    Column("password_salt", LargeBinary, nullable=False),
    # Set by the application, which adds 1 to disabled_counter in the same statement.
    Column("disabled", Boolean, nullable=False, server_default=text("false")),
    Column("display_name", Text, nullable=False, server_default=""),
    counter("email_address_counter"),
    counter("password_hash_counter"),
    counter("disabled_counter"),
    counter("sessions_counter"),
    UniqueConstraint("email_address", name="users_email_address_key"),
)


async def create_table(engine: AsyncEngine) -> None:
    """Creates the table if it is missing."""
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            # Two CREATE TABLE IF NOT EXISTS at the same moment can fail.
            await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('users'))"))
        await connection.execute(CreateTable(users, if_not_exists=True))


class UserStore(UserStoreServicer):
    """faroe.userstore.v1.UserStore on the table `users`."""

    def __init__(self, engine: AsyncEngine) -> None:
        # One statement is one transaction.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def CreateUser(
        self, request: CreateUserRequest, context: ServicerContext
    ) -> CreateUserResponse:
        user = User(
            id=secrets.token_hex(16),  # 128 random bits: no ID comes twice
            email_address=request.email_address,
            password_hash=request.password_hash,
            password_hash_algorithm_id=request.password_hash_algorithm_id,
            password_salt=request.password_salt,
        )
        statement = insert(users).values(
            id=user.id,
            email_address=user.email_address,
            password_hash=user.password_hash,
            password_hash_algorithm_id=user.password_hash_algorithm_id,
            password_salt=user.password_salt,
        )
        await self._execute(context, statement)
        return CreateUserResponse(user=user)

    async def GetUser(self, request: GetUserRequest, context: ServicerContext) -> GetUserResponse:
        statement = select(users).where(users.c.id == request.user_id)
        return GetUserResponse(user=await self._find(context, statement))

    async def GetUserByEmailAddress(
        self, request: GetUserByEmailAddressRequest, context: ServicerContext
    ) -> GetUserByEmailAddressResponse:
        statement = select(users).where(users.c.email_address == request.email_address)
        return GetUserByEmailAddressResponse(user=await self._find(context, statement))

    async def UpdateUserEmailAddress(
        self, request: UpdateUserEmailAddressRequest, context: ServicerContext
    ) -> UpdateUserEmailAddressResponse:
        await self._compare_and_set(
            context,
            request.user_id,
            users.c.email_address_counter,
            request.user_email_address_counter,
            email_address=request.email_address,
        )
        return UpdateUserEmailAddressResponse()

    async def UpdateUserPasswordHash(
        self, request: UpdateUserPasswordHashRequest, context: ServicerContext
    ) -> UpdateUserPasswordHashResponse:
        await self._compare_and_set(
            context,
            request.user_id,
            users.c.password_hash_counter,
            request.user_password_hash_counter,
            password_hash=request.password_hash,
            password_hash_algorithm_id=request.password_hash_algorithm_id,
            password_salt=request.password_salt,
        )
        return UpdateUserPasswordHashResponse()

    async def IncrementUserSessionsCounter(
        self, request: IncrementUserSessionsCounterRequest, context: ServicerContext
    ) -> IncrementUserSessionsCounterResponse:
        await self._compare_and_set(
            context, request.user_id, users.c.sessions_counter, request.user_sessions_counter
        )
        return IncrementUserSessionsCounterResponse()

    async def DeleteUser(
        self, request: DeleteUserRequest, context: ServicerContext
    ) -> DeleteUserResponse:
        await self._change_one(context, delete(users).where(users.c.id == request.user_id))
        return DeleteUserResponse()

    async def _compare_and_set(
        self,
        context: ServicerContext,
        user_id: str,
        counter: Column[int],
        seen: int,
        **changes: Any,
    ) -> None:
        """Changes a user whose counter still has the value that the caller saw, and adds 1 to it."""
        statement = (
            update(users)
            .where(users.c.id == user_id, counter == seen)
            .values({**changes, counter.name: counter + 1})
        )
        await self._change_one(context, statement)

    async def _find(self, context: ServicerContext, statement: Executable) -> User:
        row, _ = await self._execute(context, statement)
        if row is None:
            await not_found(context)
        return User(**row._mapping)

    async def _change_one(self, context: ServicerContext, statement: Executable) -> None:
        _, changed = await self._execute(context, statement)
        if changed == 0:
            await not_found(context)

    async def _execute(
        self, context: ServicerContext, statement: Executable
    ) -> tuple[Row[Any] | None, int]:
        """The first row that a statement gives, and how many it changed."""
        try:
            async with self._engine.connect() as connection:
                result = await connection.execute(statement)
                return (result.first() if result.returns_rows else None), result.rowcount
        except Exception as error:
            code, details = meaning(error)
            if code == grpc.StatusCode.INTERNAL:
                logger.error("statement failed: %s", details)
            await context.abort(code, details)


async def not_found(context: ServicerContext) -> NoReturn:
    await context.abort(
        grpc.StatusCode.NOT_FOUND, "no such user, or the counter does not match"
    )


def meaning(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status of a statement that failed, and a text without values.

    It is never NOT_FOUND: that is a fact about a user, which only a statement
    that succeeded can establish. Messages of databases, drivers and SQLAlchemy
    quote values, so only codes and names are taken from them.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    # psycopg's errors and those of sqlite3.
    sqlstate = getattr(cause, "sqlstate", None)
    constraint = getattr(getattr(cause, "diag", None), "constraint_name", None)
    sqlite = getattr(cause, "sqlite_errorname", None)
    if (sqlstate == "23505" and constraint == "users_email_address_key") or (
        sqlite == "SQLITE_CONSTRAINT_UNIQUE"
        and str(cause) == "UNIQUE constraint failed: users.email_address"
    ):
        return grpc.StatusCode.ALREADY_EXISTS, "email address taken"
    details = " ".join(filter(None, [type(cause).__name__, sqlstate, constraint, sqlite]))
    if sqlstate in ("40001", "40P01", "55P03") or (
        sqlite is not None and sqlite.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    ):
        return grpc.StatusCode.ABORTED, details
    return grpc.StatusCode.INTERNAL, details
