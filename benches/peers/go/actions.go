package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/mattn/go-sqlite3"
)

// As many connections as the pools of the other peers have.
const connections = 10

type user struct {
	ID                      string `json:"id"`
	EmailAddress            string `json:"email_address"`
	PasswordHash            []byte `json:"password_hash"`
	PasswordHashAlgorithmID string `json:"password_hash_algorithm_id"`
	PasswordSalt            []byte `json:"password_salt"`
	Disabled                bool   `json:"disabled"`
	DisplayName             string `json:"display_name"`
	EmailAddressCounter     int32  `json:"email_address_counter"`
	PasswordHashCounter     int32  `json:"password_hash_counter"`
	DisabledCounter         int32  `json:"disabled_counter"`
	SessionsCounter         int32  `json:"sessions_counter"`
}

// The arguments of all actions.
type arguments struct {
	UserID                  string `json:"user_id"`
	EmailAddress            string `json:"email_address"`
	PasswordHash            []byte `json:"password_hash"`
	PasswordHashAlgorithmID string `json:"password_hash_algorithm_id"`
	PasswordSalt            []byte `json:"password_salt"`
	EmailAddressCounter     int32  `json:"user_email_address_counter"`
	PasswordHashCounter     int32  `json:"user_password_hash_counter"`
	SessionsCounter         int32  `json:"user_sessions_counter"`
}

var errNotFound = errors.New("no such user, or the counter does not match")

type database struct {
	*sql.DB
	numbered bool
}

func open(url string) (database, error) {
	scheme, rest, _ := strings.Cut(url, "://")
	var driver, name string
	switch scheme {
	case "sqlite":
		driver, name = "sqlite3", "file:"+rest+"?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=2000"
	case "postgres":
		driver, name = "pgx", url
	default:
		// USER:PASSWORD@HOST:PORT/NAME
		account, place, _ := strings.Cut(rest, "@")
		host, schema, _ := strings.Cut(place, "/")
		driver, name = "mysql", fmt.Sprintf("%s@tcp(%s)/%s", account, host, schema)
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return database{}, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return database{db, driver == "pgx"}, db.Ping()
}

// prepared gives a statement that has a `?` for each value.
func (db database) prepared(statement string) *sql.Stmt {
	if db.numbered {
		for number := 1; strings.Contains(statement, "?"); number++ {
			statement = strings.Replace(statement, "?", fmt.Sprintf("$%d", number), 1)
		}
	}
	prepared, err := db.Prepare(statement)
	if err != nil {
		log.Fatal(err)
	}
	return prepared
}

const columns = `id, email_address, password_hash, password_hash_algorithm_id, password_salt, disabled,
	display_name, email_address_counter, password_hash_counter, disabled_counter, sessions_counter`

func actionsOn(db database) map[string]action {
	insert := db.prepared(`INSERT INTO users (id, email_address, password_hash,
		password_hash_algorithm_id, password_salt, display_name) VALUES (?, ?, ?, ?, ?, '')`)
	byID := db.prepared(`SELECT ` + columns + ` FROM users WHERE id = ?`)
	byEmailAddress := db.prepared(`SELECT ` + columns + ` FROM users WHERE email_address = ?`)
	updateEmailAddress := db.prepared(`UPDATE users SET email_address = ?,
		email_address_counter = email_address_counter + 1 WHERE id = ? AND email_address_counter = ?`)
	updatePassword := db.prepared(`UPDATE users SET password_hash = ?, password_hash_algorithm_id = ?,
		password_salt = ?, password_hash_counter = password_hash_counter + 1
		WHERE id = ? AND password_hash_counter = ?`)
	incrementSessions := db.prepared(`UPDATE users SET sessions_counter = sessions_counter + 1
		WHERE id = ? AND sessions_counter = ?`)
	remove := db.prepared(`DELETE FROM users WHERE id = ?`)

	return map[string]action{
		"create_user": func(ctx context.Context, a arguments) (*user, error) {
			created := &user{
				ID:                      strings.ToLower(rand.Text()),
				EmailAddress:            a.EmailAddress,
				PasswordHash:            a.PasswordHash,
				PasswordHashAlgorithmID: a.PasswordHashAlgorithmID,
				PasswordSalt:            a.PasswordSalt,
			}
			_, err := insert.ExecContext(ctx, created.ID, created.EmailAddress, created.PasswordHash,
				created.PasswordHashAlgorithmID, created.PasswordSalt)
			return created, err
		},
		"get_user": func(ctx context.Context, a arguments) (*user, error) {
			return find(ctx, byID, a.UserID)
		},
		"get_user_by_email_address": func(ctx context.Context, a arguments) (*user, error) {
			return find(ctx, byEmailAddress, a.EmailAddress)
		},
		"update_user_email_address": func(ctx context.Context, a arguments) (*user, error) {
			return nil, changeOne(ctx, updateEmailAddress, a.EmailAddress, a.UserID, a.EmailAddressCounter)
		},
		"update_user_password_hash": func(ctx context.Context, a arguments) (*user, error) {
			return nil, changeOne(ctx, updatePassword, a.PasswordHash, a.PasswordHashAlgorithmID,
				a.PasswordSalt, a.UserID, a.PasswordHashCounter)
		},
		"increment_user_sessions_counter": func(ctx context.Context, a arguments) (*user, error) {
			return nil, changeOne(ctx, incrementSessions, a.UserID, a.SessionsCounter)
		},
		"delete_user": func(ctx context.Context, a arguments) (*user, error) {
			return nil, changeOne(ctx, remove, a.UserID)
		},
	}
}

func find(ctx context.Context, query *sql.Stmt, key string) (*user, error) {
	var u user
	err := query.QueryRowContext(ctx, key).Scan(&u.ID, &u.EmailAddress, &u.PasswordHash,
		&u.PasswordHashAlgorithmID, &u.PasswordSalt, &u.Disabled, &u.DisplayName,
		&u.EmailAddressCounter, &u.PasswordHashCounter, &u.DisabledCounter, &u.SessionsCounter)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	return &u, err
}

// No row changed: no such user, or another value of the counter.
func changeOne(ctx context.Context, statement *sql.Stmt, values ...any) error {
	result, err := statement.ExecContext(ctx, values...)
	if err != nil {
		return err
	}
	if changed, err := result.RowsAffected(); err != nil || changed == 1 {
		return err
	}
	return errNotFound
}

func errorCode(err error) string {
	var ofPostgres *pgconn.PgError
	var ofMySQL *mysql.MySQLError
	var ofSqlite sqlite3.Error
	switch {
	case errors.Is(err, errNotFound):
		return "user_not_found"
	case errors.As(err, &ofPostgres) && ofPostgres.ConstraintName == "users_email_address_key",
		errors.As(err, &ofMySQL) && ofMySQL.Number == 1062 && strings.Contains(ofMySQL.Message, "users_email_address_key"),
		errors.As(err, &ofSqlite) && ofSqlite.Error() == "UNIQUE constraint failed: users.email_address":
		return "email_address_already_used"
	}
	log.Printf("statement failed: %T", err)
	return "internal_error"
}
