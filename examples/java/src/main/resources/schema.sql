-- Run at each start; what is there already stays as it is.

-- One of several that start at once creates the table, the others wait until it is there.
SELECT pg_advisory_xact_lock(6152806429);

CREATE TABLE IF NOT EXISTS users (
    -- "C" compares byte for byte, whatever the collation of the database is.
    id                         TEXT COLLATE "C" PRIMARY KEY,
    -- PostgresUserStore knows a taken address by the name of this constraint.
    email_address              TEXT COLLATE "C" NOT NULL CONSTRAINT users_email_address_key UNIQUE,
    password_hash              BYTEA   NOT NULL,
    password_hash_algorithm_id TEXT    NOT NULL,
    password_salt              BYTEA   NOT NULL,
    -- The application's: Faroe reads them.
    disabled                   BOOLEAN NOT NULL DEFAULT FALSE,
    display_name               TEXT    NOT NULL DEFAULT '',
    -- An INTEGER ends at 2147483647, where the counters have to: adding 1 to it is an error.
    email_address_counter      INTEGER NOT NULL DEFAULT 0 CHECK (email_address_counter >= 0),
    password_hash_counter      INTEGER NOT NULL DEFAULT 0 CHECK (password_hash_counter >= 0),
    disabled_counter           INTEGER NOT NULL DEFAULT 0 CHECK (disabled_counter >= 0),
    sessions_counter           INTEGER NOT NULL DEFAULT 0 CHECK (sessions_counter >= 0)
);
