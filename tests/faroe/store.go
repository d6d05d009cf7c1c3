package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
)

// keeper is whoever started this program and keeps the store: it is asked a line on standard output
// and answers with a line on standard input.
type keeper struct{ answers *bufio.Scanner }

func newKeeper() keeper {
	answers := bufio.NewScanner(os.Stdin)
	answers.Buffer(nil, 1<<20)
	return keeper{answers}
}

func (keeper keeper) ask(question ...string) string {
	fmt.Println(strings.Join(question, " "))
	if !keeper.answers.Scan() {
		log.Fatalf("nobody answered %q: %v", question[0], keeper.answers.Err())
	}
	return keeper.answers.Text()
}

// users is the table.
func (keeper keeper) users() (rows []row, err error) {
	err = json.Unmarshal([]byte(keeper.ask("users")), &rows)
	return rows, err
}

// row is a user as the database has it. Bytes are hexadecimal.
type row struct {
	Id                      string `json:"id"`
	EmailAddress            string `json:"email_address"`
	PasswordHash            string `json:"password_hash"`
	PasswordHashAlgorithmId string `json:"password_hash_algorithm_id"`
	PasswordSalt            string `json:"password_salt"`
	Disabled                int32  `json:"disabled"`
	DisplayName             string `json:"display_name"`
	EmailAddressCounter     int32  `json:"email_address_counter"`
	PasswordHashCounter     int32  `json:"password_hash_counter"`
	DisabledCounter         int32  `json:"disabled_counter"`
	SessionsCounter         int32  `json:"sessions_counter"`
	CreatedAt               string `json:"created_at"`
	UpdatedAt               string `json:"updated_at"`
}

// account is what the store has to hold of a person.
type account struct {
	id, emailAddress, password, displayName string
	disabled                                bool
	emailAddressCounter                     int32
	passwordHashCounter                     int32
	disabledCounter                         int32
	sessionsCounter                         int32
}

// look is what was expected and what was seen when somebody was last looked at.
type look struct {
	expected account
	seen     row
}

// ledger knows what has to be in the store.
type ledger struct {
	keeper   keeper
	accounts []*account
	looks    map[string]look
}

// forget ends an account: it must not be there any more.
func (ledger *ledger) forget(gone *account) {
	ledger.accounts = slices.DeleteFunc(ledger.accounts, func(account *account) bool { return account == gone })
}

// compare looks at everybody in the store and says how that differs from what has to be there: nobody
// is missing or too many, and what no flow has changed is as it was, byte for byte. It names columns
// and counters, and shows no email address, hash or salt.
func (ledger *ledger) compare() error {
	rows, err := ledger.keeper.users()
	if err != nil {
		return err
	}
	var differences []string
	if len(rows) != len(ledger.accounts) {
		differences = append(differences, fmt.Sprintf("there are %d users, not %d", len(rows), len(ledger.accounts)))
	}
	for _, account := range ledger.accounts {
		at := slices.IndexFunc(rows, func(row row) bool { return row.Id == account.id })
		if at < 0 {
			differences = append(differences, fmt.Sprintf("user %s is not there", account.id))
			continue
		}
		for _, difference := range account.differences(rows[at], ledger.looks[account.id]) {
			differences = append(differences, fmt.Sprintf("of user %s %s", account.id, difference))
		}
		ledger.looks[account.id] = look{*account, rows[at]}
	}
	if differences != nil {
		return fmt.Errorf("in the store: %s", strings.Join(differences, "; "))
	}
	return nil
}

func (account *account) differences(row row, last look) (differences []string) {
	number := func(column string, seen, expected int32) {
		if seen != expected {
			differences = append(differences, fmt.Sprintf("%s is %d, not %d", column, seen, expected))
		}
	}
	holds := func(fact bool, otherwise string) {
		if !fact {
			differences = append(differences, otherwise)
		}
	}
	disabled := int32(0)
	if account.disabled {
		disabled = 1
	}
	number("disabled", row.Disabled, disabled)
	number("email_address_counter", row.EmailAddressCounter, account.emailAddressCounter)
	number("password_hash_counter", row.PasswordHashCounter, account.passwordHashCounter)
	number("disabled_counter", row.DisabledCounter, account.disabledCounter)
	number("sessions_counter", row.SessionsCounter, account.sessionsCounter)
	holds(row.EmailAddress == account.emailAddress, "the email address is another")
	holds(row.DisplayName == account.displayName, "the display name is another")
	holds(row.PasswordHashAlgorithmId == passwordHash{}.Id(), "the hash algorithm is another")
	holds(account.hashed(row), "the hash is not that of the password")
	if last.seen.Id == "" {
		return differences
	}
	holds(row.CreatedAt == last.seen.CreatedAt, "created_at has changed")
	if account.passwordHashCounter != last.expected.passwordHashCounter {
		holds(row.PasswordHash != last.seen.PasswordHash, "the hash is the old one")
		holds(row.PasswordSalt != last.seen.PasswordSalt, "the salt is the old one")
	}
	if *account == last.expected {
		holds(row == last.seen, "something has changed, and nothing was to")
	}
	return differences
}

// hashed says whether the hash of a row is that of the password, with the salt of the row.
func (account *account) hashed(row row) bool {
	hash, err := hex.DecodeString(row.PasswordHash)
	if err != nil {
		return false
	}
	salt, err := hex.DecodeString(row.PasswordSalt)
	if err != nil || len(salt) != (passwordHash{}).SaltSize() {
		return false
	}
	expected, err := passwordHash{}.Hash(account.password, salt)
	return err == nil && bytes.Equal(hash, expected)
}
