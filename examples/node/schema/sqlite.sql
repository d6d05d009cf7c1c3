-- Integers of SQLite have 64 bits: the checks keep counters to 32.
CREATE TABLE IF NOT EXISTS users (
    id                         TEXT    NOT NULL PRIMARY KEY,
    email_address              TEXT    NOT NULL UNIQUE,
    password_hash              BLOB    NOT NULL,
    password_hash_algorithm_id TEXT    NOT NULL,
    password_salt              BLOB    NOT NULL,
    disabled                   INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    display_name               TEXT    NOT NULL DEFAULT '',
    email_address_counter      INTEGER NOT NULL DEFAULT 0 CHECK (email_address_counter BETWEEN 0 AND 2147483647),
    password_hash_counter      INTEGER NOT NULL DEFAULT 0 CHECK (password_hash_counter BETWEEN 0 AND 2147483647),
    disabled_counter           INTEGER NOT NULL DEFAULT 0 CHECK (disabled_counter BETWEEN 0 AND 2147483647),
    sessions_counter           INTEGER NOT NULL DEFAULT 0 CHECK (sessions_counter BETWEEN 0 AND 2147483647)
) STRICT;
