-- VARBINARY for what is compared: text columns ignore case or trailing spaces, by their collation.
-- LONGBLOB and LONGTEXT, because BLOB and TEXT end at 65,535 bytes.
CREATE TABLE IF NOT EXISTS users (
    id                         VARBINARY(255)  NOT NULL,
    email_address              VARBINARY(3072) NOT NULL,
    password_hash              LONGBLOB NOT NULL,
    password_hash_algorithm_id LONGTEXT NOT NULL,
    password_salt              LONGBLOB NOT NULL,
    disabled                   BOOLEAN  NOT NULL DEFAULT FALSE,
    display_name               LONGTEXT NOT NULL,
    email_address_counter      INT NOT NULL DEFAULT 0 CHECK (email_address_counter >= 0),
    password_hash_counter      INT NOT NULL DEFAULT 0 CHECK (password_hash_counter >= 0),
    disabled_counter           INT NOT NULL DEFAULT 0 CHECK (disabled_counter >= 0),
    sessions_counter           INT NOT NULL DEFAULT 0 CHECK (sessions_counter >= 0),
    PRIMARY KEY (id),
    CONSTRAINT users_email_address_key UNIQUE KEY (email_address)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin
