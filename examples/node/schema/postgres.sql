-- Programs that start at the same moment create the table one after the other.
SELECT pg_advisory_xact_lock(5045504348771);

CREATE TABLE IF NOT EXISTS users (
    id                         TEXT COLLATE "C" NOT NULL CONSTRAINT users_pkey PRIMARY KEY,
    email_address              TEXT COLLATE "C" NOT NULL CONSTRAINT users_email_address_key UNIQUE,
    password_hash              BYTEA   NOT NULL,
    password_hash_algorithm_id TEXT    NOT NULL,
    password_salt              BYTEA   NOT NULL,
    disabled                   BOOLEAN NOT NULL DEFAULT FALSE,
    display_name               TEXT    NOT NULL DEFAULT '',
    email_address_counter      INTEGER NOT NULL DEFAULT 0 CHECK (email_address_counter >= 0),
    password_hash_counter      INTEGER NOT NULL DEFAULT 0 CHECK (password_hash_counter >= 0),
    disabled_counter           INTEGER NOT NULL DEFAULT 0 CHECK (disabled_counter >= 0),
    sessions_counter           INTEGER NOT NULL DEFAULT 0 CHECK (sessions_counter >= 0)
);
