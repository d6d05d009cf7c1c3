package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"userstore/userstorev1"
)

// store answers each call with one statement, which PostgreSQL makes atomic by
// itself: a unique constraint decides whether an email address is free, and the
// WHERE of an update whether a counter still has its value.
type store struct {
	userstorev1.UnimplementedUserStoreServer
	db *sql.DB
}

func (s *store) CreateUser(ctx context.Context, request *userstorev1.CreateUserRequest) (*userstorev1.CreateUserResponse, error) {
	user := &userstorev1.User{
		Id:                      rand.Text(), // 130 random bits: no ID comes twice
		EmailAddress:            request.EmailAddress,
		PasswordHash:            request.PasswordHash,
		PasswordHashAlgorithmId: request.PasswordHashAlgorithmId,
		PasswordSalt:            request.PasswordSalt,
	}
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO users (id, email_address, password_hash, password_hash_algorithm_id, password_salt)
		VALUES ($1, $2, $3, $4, $5)`,
		user.Id, user.EmailAddress, notNull(user.PasswordHash), user.PasswordHashAlgorithmId,
		notNull(user.PasswordSalt))
	if err != nil {
		return nil, failure(ctx, err)
	}
	return &userstorev1.CreateUserResponse{User: user}, nil
}

func (s *store) GetUser(ctx context.Context, request *userstorev1.GetUserRequest) (*userstorev1.GetUserResponse, error) {
	user, err := s.find(ctx, `SELECT `+columns+` FROM users WHERE id = $1`, request.UserId)
	if err != nil {
		return nil, err
	}
	return &userstorev1.GetUserResponse{User: user}, nil
}

func (s *store) GetUserByEmailAddress(ctx context.Context, request *userstorev1.GetUserByEmailAddressRequest) (*userstorev1.GetUserByEmailAddressResponse, error) {
	user, err := s.find(ctx, `SELECT `+columns+` FROM users WHERE email_address = $1`, request.EmailAddress)
	if err != nil {
		return nil, err
	}
	return &userstorev1.GetUserByEmailAddressResponse{User: user}, nil
}

func (s *store) UpdateUserEmailAddress(ctx context.Context, request *userstorev1.UpdateUserEmailAddressRequest) (*userstorev1.UpdateUserEmailAddressResponse, error) {
	err := s.changeOne(ctx, `
		UPDATE users SET email_address = $3, email_address_counter = email_address_counter + 1
		WHERE id = $1 AND email_address_counter = $2`,
		request.UserId, request.UserEmailAddressCounter, request.EmailAddress)
	if err != nil {
		return nil, err
	}
	return &userstorev1.UpdateUserEmailAddressResponse{}, nil
}

func (s *store) UpdateUserPasswordHash(ctx context.Context, request *userstorev1.UpdateUserPasswordHashRequest) (*userstorev1.UpdateUserPasswordHashResponse, error) {
	err := s.changeOne(ctx, `
		UPDATE users SET password_hash = $3, password_hash_algorithm_id = $4, password_salt = $5,
			password_hash_counter = password_hash_counter + 1
		WHERE id = $1 AND password_hash_counter = $2`,
		request.UserId, request.UserPasswordHashCounter, notNull(request.PasswordHash),
		request.PasswordHashAlgorithmId, notNull(request.PasswordSalt))
	if err != nil {
		return nil, err
	}
	return &userstorev1.UpdateUserPasswordHashResponse{}, nil
}

func (s *store) IncrementUserSessionsCounter(ctx context.Context, request *userstorev1.IncrementUserSessionsCounterRequest) (*userstorev1.IncrementUserSessionsCounterResponse, error) {
	err := s.changeOne(ctx, `
		UPDATE users SET sessions_counter = sessions_counter + 1
		WHERE id = $1 AND sessions_counter = $2`,
		request.UserId, request.UserSessionsCounter)
	if err != nil {
		return nil, err
	}
	return &userstorev1.IncrementUserSessionsCounterResponse{}, nil
}

func (s *store) DeleteUser(ctx context.Context, request *userstorev1.DeleteUserRequest) (*userstorev1.DeleteUserResponse, error) {
	if err := s.changeOne(ctx, `DELETE FROM users WHERE id = $1`, request.UserId); err != nil {
		return nil, err
	}
	return &userstorev1.DeleteUserResponse{}, nil
}

const columns = `id, email_address, password_hash, password_hash_algorithm_id, password_salt, disabled,
	display_name, email_address_counter, password_hash_counter, disabled_counter, sessions_counter`

// find runs a query for one user.
func (s *store) find(ctx context.Context, query, key string) (*userstorev1.User, error) {
	user := &userstorev1.User{}
	err := s.db.QueryRowContext(ctx, query, key).Scan(
		&user.Id, &user.EmailAddress, &user.PasswordHash, &user.PasswordHashAlgorithmId, &user.PasswordSalt,
		&user.Disabled, &user.DisplayName, &user.EmailAddressCounter, &user.PasswordHashCounter,
		&user.DisabledCounter, &user.SessionsCounter)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound
	}
	if err != nil {
		return nil, failure(ctx, err)
	}
	return user, nil
}

// changeOne runs a statement that names one user, and in an update the counter
// that was seen. No row changed: no such user, or another value.
func (s *store) changeOne(ctx context.Context, statement string, arguments ...any) error {
	result, err := s.db.ExecContext(ctx, statement, arguments...)
	if err != nil {
		return failure(ctx, err)
	}
	if changed, err := result.RowsAffected(); err != nil {
		return failure(ctx, err)
	} else if changed == 0 {
		return notFound
	}
	return nil
}

var notFound = status.Error(codes.NotFound, "no such user, or the counter does not match")

// failure is the status of a statement that failed. It is never NOT_FOUND: that
// is a fact about a user, which only a statement that succeeded can establish.
//
// Messages of the database and the driver may quote values, so that neither log
// nor status has them; the code and the constraint say what happened.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	var failed *pgconn.PgError
	if errors.As(err, &failed) {
		switch {
		case failed.Code == "23505" && failed.ConstraintName == "users_email_address_key":
			return status.Error(codes.AlreadyExists, "email address taken")
		case failed.Code == "40001", failed.Code == "40P01", failed.Code == "55P03":
			return status.Errorf(codes.Aborted, "transient conflict, PostgreSQL %s", failed.Code)
		}
		slog.Error("statement failed", "sqlstate", failed.Code, "constraint", failed.ConstraintName)
		return status.Errorf(codes.Internal, "PostgreSQL %s", failed.Code)
	}
	var unreachable *pgconn.ConnectError
	if errors.As(err, &unreachable) {
		slog.Error("no connection to the database", "error", unreachable)
		return status.Error(codes.Internal, "no connection to the database")
	}
	slog.Error("statement failed", "type", fmt.Sprintf("%T", err))
	return status.Error(codes.Internal, "the database driver failed")
}

// notNull keeps empty bytes from becoming NULL: protobuf gives them as nil.
func notNull(bytes []byte) []byte {
	if bytes == nil {
		return []byte{}
	}
	return bytes
}
