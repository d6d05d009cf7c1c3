-- Run at each start. The lock lets several copies of the program start at once: two
-- CREATE TABLE IF NOT EXISTS at the same moment can fail.
SELECT pg_advisory_xact_lock(hashtext('faroe.userstore.v1'));

-- COLLATE "C" compares byte for byte. Without it the database's own collation decides, and one that
-- was created as nondeterministic takes different addresses for the same.
CREATE TABLE IF NOT EXISTS users (
    id                         text COLLATE "C" PRIMARY KEY CHECK (id <> ''),
    email_address              text COLLATE "C" NOT NULL CONSTRAINT users_email_address_key UNIQUE,
    password_hash              bytea   NOT NULL,
    password_hash_algorithm_id text    NOT NULL,
    password_salt              bytea   NOT NULL,
    -- Set by the application, which adds 1 to disabled_counter in the same statement.
    disabled                   boolean NOT NULL DEFAULT false,
    display_name               text    NOT NULL DEFAULT '',
    -- "integer" has 32 bits: PostgreSQL refuses to count beyond 2147483647.
    email_address_counter      integer NOT NULL DEFAULT 0 CHECK (email_address_counter >= 0),
    password_hash_counter      integer NOT NULL DEFAULT 0 CHECK (password_hash_counter >= 0),
    disabled_counter           integer NOT NULL DEFAULT 0 CHECK (disabled_counter >= 0),
    sessions_counter           integer NOT NULL DEFAULT 0 CHECK (sessions_counter >= 0)
);
