package main

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/faroedev/faroe"
)

// leakedPassword is the one password that the service for leaked passwords knows.
const leakedPassword = "planted and leaked"

// surroundings are what a Faroe server needs beside its user store, all of it in memory.
type surroundings struct {
	clock   clock
	mail    mail
	log     errorLog
	storage storage
}

// newFaroe is a whole Faroe server on a user store.
func newFaroe(users faroe.UserStoreInterface) (*faroe.ServerStruct, *surroundings) {
	around := &surroundings{
		clock:   clock{time.Now()},
		mail:    mail{},
		storage: storage{},
	}
	// Faroe asks a public service whether a password has leaked, through this client.
	http.DefaultClient.Transport = leakedPasswords{}
	server := faroe.NewServer(
		around.storage,
		users,
		&around.log,
		[]faroe.PasswordHashAlgorithmInterface{passwordHash{}},
		passwordHash{},
		1,
		&around.clock,
		faroe.AllowAllEmailAddresses,
		around.mail,
		// Each check of a session asks for the user.
		faroe.SessionConfigStruct{InactivityTimeout: 30 * 24 * time.Hour, ActivityCheckInterval: time.Minute},
	)
	return server, around
}

// clock stands still until it is put forward.
type clock struct{ now time.Time }

func (clock *clock) Now() time.Time { return clock.now }

func (clock *clock) forward(by time.Duration) { clock.now = clock.now.Add(by) }

// passwordHash is slow enough to be a hash of passwords and fast enough for a test. Its word at the
// beginning is looked for in the sidecar's log.
type passwordHash struct{}

func (passwordHash) Id() string { return "pbkdf2-sha256.1000" }

func (passwordHash) SaltSize() int { return 16 }

func (passwordHash) Hash(password string, salt []byte) ([]byte, error) {
	key, err := pbkdf2.Key(sha256.New, password, salt, 1000, 32)
	return append([]byte("planted "), key...), err
}

// mail keeps the last letter to each address.
type mail map[string]letter

type letter struct {
	kind, displayName string
	// The code or the temporary password.
	secret string
}

func (mail mail) SendSignupEmailAddressVerificationCode(to, code string) error {
	mail[to] = letter{kind: "code", secret: code}
	return nil
}

func (mail mail) SendUserEmailAddressUpdateEmailVerificationCode(to, name, code string) error {
	mail[to] = letter{"code", name, code}
	return nil
}

func (mail mail) SendUserPasswordResetTemporaryPassword(to, name, password string) error {
	mail[to] = letter{"temporary password", name, password}
	return nil
}

func (mail mail) SendUserSignedInNotification(to, name string, _ time.Time) error {
	mail[to] = letter{kind: "signed in", displayName: name}
	return nil
}

func (mail mail) SendUserEmailAddressUpdatedNotification(to, name, _ string, _ time.Time) error {
	mail[to] = letter{kind: "email address updated", displayName: name}
	return nil
}

func (mail mail) SendUserPasswordUpdatedNotification(to, name string, _ time.Time) error {
	mail[to] = letter{kind: "password updated", displayName: name}
	return nil
}

// errorLog is what Faroe complains of.
type errorLog []string

func (log *errorLog) LogActionError(_ time.Time, message, _, _ string) {
	*log = append(*log, message)
}

// taken is what was complained of since the last time.
func (log *errorLog) taken() string {
	all := strings.Join(*log, "; ")
	*log = nil
	return all
}

// storage is Faroe's store of what does not last. Nothing in it expires: Faroe looks at the time.
type storage map[string]entry

type entry struct {
	value   []byte
	counter int32
}

func (storage storage) Get(key string) ([]byte, int32, error) {
	entry, found := storage[key]
	if !found {
		return nil, 0, faroe.ErrStorageEntryNotFound
	}
	return bytes.Clone(entry.value), entry.counter, nil
}

func (storage storage) Add(key string, value []byte, _ time.Time) error {
	if _, found := storage[key]; found {
		return faroe.ErrStorageEntryAlreadyExists
	}
	storage[key] = entry{bytes.Clone(value), 0}
	return nil
}

func (storage storage) Update(key string, value []byte, _ time.Time, counter int32) error {
	if entry, found := storage[key]; !found || entry.counter != counter {
		return faroe.ErrStorageEntryNotFound
	}
	storage[key] = entry{bytes.Clone(value), counter + 1}
	return nil
}

func (storage storage) Delete(key string) error {
	if _, found := storage[key]; !found {
		return faroe.ErrStorageEntryNotFound
	}
	delete(storage, key)
	return nil
}

// leakedPasswords answers for the public service, so that nothing leaves this machine.
type leakedPasswords struct{}

func (leakedPasswords) RoundTrip(request *http.Request) (*http.Response, error) {
	prefix, found := strings.CutPrefix(request.URL.String(), "https://api.pwnedpasswords.com/range/")
	if !found {
		return nil, errors.New("no other address is asked: " + request.URL.Host)
	}
	var list string
	sum := sha1.Sum([]byte(leakedPassword))
	if suffix, found := strings.CutPrefix(hex.EncodeToString(sum[:]), prefix); found {
		list = strings.ToUpper(suffix) + ":3\r\n"
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(list)), Request: request}, nil
}
