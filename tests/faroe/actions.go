package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/faroedev/faroe"
)

// callEveryAction goes with the client of a Faroe server through every action and every error that a
// Faroe server knows.
func callEveryAction(users *faroe.UserServerClientStruct, emailAddress string) error {
	created, err := users.CreateUser(emailAddress, []byte{0, 255}, "argon2id.65536.3.1.32", nil)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if _, err := users.CreateUser(emailAddress, nil, "", nil); !errors.Is(err, faroe.ErrUserStoreUserEmailAddressAlreadyUsed) {
		return fmt.Errorf("create again: %v", err)
	}
	if err := users.UpdateUserEmailAddress(created.Id, "new-"+emailAddress, 0); err != nil {
		return fmt.Errorf("update email address: %w", err)
	}
	if err := users.UpdateUserPasswordHash(created.Id, []byte("hash"), "other", []byte("salt"), 0); err != nil {
		return fmt.Errorf("update password hash: %w", err)
	}
	if err := users.IncrementUserSessionsCounter(created.Id, 0); err != nil {
		return fmt.Errorf("increment sessions counter: %w", err)
	}
	if err := users.IncrementUserSessionsCounter(created.Id, 0); !errors.Is(err, faroe.ErrUserStoreUserNotFound) {
		return fmt.Errorf("increment by a stale counter: %v", err)
	}
	found, err := users.GetUser(created.Id)
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if found.EmailAddress != "new-"+emailAddress || found.EmailAddressCounter != 1 ||
		!bytes.Equal(found.PasswordHash, []byte("hash")) || found.PasswordHashCounter != 1 ||
		found.SessionsCounter != 1 || found.DisabledCounter != 0 || found.Disabled {
		return errors.New("get: not the user as it was changed")
	}
	byEmailAddress, err := users.GetUserByEmailAddress("new-" + emailAddress)
	if err != nil || byEmailAddress.Id != created.Id {
		return fmt.Errorf("get by email address: %v", err)
	}
	if err := users.DeleteUser(created.Id); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if _, err := users.GetUser(created.Id); !errors.Is(err, faroe.ErrUserStoreUserNotFound) {
		return fmt.Errorf("get after delete: %v", err)
	}
	return nil
}
