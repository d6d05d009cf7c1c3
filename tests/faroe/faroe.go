package main

import (
	"encoding/json"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/faroedev/faroe"
)

// endpoint is the way to the sidecar, on which the store can go away in the middle of a flow.
type endpoint struct {
	sidecar *userServer
	leave   func()
	// The action before which the store goes away, once.
	awayBefore string
}

func (endpoint *endpoint) SendActionInvocationEndpointRequest(body string) (string, error) {
	var invocation struct{ Action string }
	if err := json.Unmarshal([]byte(body), &invocation); err != nil {
		return "", err
	}
	if invocation.Action == endpoint.awayBefore {
		endpoint.awayBefore = ""
		endpoint.leave()
	}
	return endpoint.sidecar.SendActionInvocationEndpointRequest(body)
}

// run is a Faroe server, those who use it, and what has to be in the store for it. The first thing
// that goes wrong ends the program.
type run struct {
	server *faroe.ServerStruct
	*surroundings
	endpoint *endpoint
	ledger   *ledger
	flow     string
	people   int
}

func newRun(sidecar *userServer) *run {
	keeper := newKeeper()
	endpoint := &endpoint{sidecar: sidecar}
	server, surroundings := newFaroe(faroe.NewUserServerClient(endpoint))
	run := &run{
		server:       server,
		surroundings: surroundings,
		endpoint:     endpoint,
		ledger:       &ledger{keeper: keeper, looks: map[string]look{}},
	}
	endpoint.leave = func() { run.storeGoes("away") }
	return run
}

func (run *run) fail(format string, values ...any) {
	log.Fatalf("%s: %s", run.flow, fmt.Sprintf(format, values...))
}

// checkStore ends a step: everybody in the store is as the flows have left them.
func (run *run) checkStore(step string) {
	if err := run.ledger.compare(); err != nil {
		run.fail("after %s: %v", step, err)
	}
}

// storeGoes takes the store `away` or brings it `back`, until callers of the sidecar notice.
func (run *run) storeGoes(where string) {
	if noticed := run.ledger.keeper.ask(where); noticed != "noticed" {
		run.fail("the store went %s, and the sidecar still answers %s", where, noticed)
	}
}

// arguments of an action of Faroe; all of them are strings.
type arguments map[string]string

// values of an action of Faroe, those that matter here.
type values struct {
	Session struct {
		UserId string `json:"user_id"`
	}
	SessionToken                string `json:"session_token"`
	SignupToken                 string `json:"signup_token"`
	SigninToken                 string `json:"signin_token"`
	UserEmailAddressUpdateToken string `json:"user_email_address_update_token"`
	UserPasswordUpdateToken     string `json:"user_password_update_token"`
	UserPasswordResetToken      string `json:"user_password_reset_token"`
	UserDeletionToken           string `json:"user_deletion_token"`
}

// invoke sends an action to Faroe as an application does: values, or an error code with what Faroe
// complained of.
func (run *run) invoke(action string, arguments arguments) (values values, errorCode, complaint string) {
	// One check of a password a minute is never too often.
	if strings.HasPrefix(action, "verify_") {
		run.clock.forward(time.Minute)
	}
	request, err := json.Marshal(map[string]any{"action": action, "arguments": arguments})
	if err != nil {
		run.fail("%s: %v", action, err)
	}
	answer, err := run.server.ResolveActionInvocationEndpointRequestWithBlocklist(string(request), nil)
	if err != nil {
		run.fail("%s: %v", action, err)
	}
	result := struct {
		Ok        bool
		Values    any
		ErrorCode string `json:"error_code"`
	}{Values: &values}
	if err := json.Unmarshal([]byte(answer), &result); err != nil {
		run.fail("%s: %v", action, err)
	}
	if !result.Ok && result.ErrorCode == "" {
		run.fail("%s: neither values nor an error code", action)
	}
	return values, result.ErrorCode, run.log.taken()
}

// does invokes an action that has to succeed.
func (run *run) does(action string, arguments arguments) values {
	values, errorCode, complaint := run.invoke(action, arguments)
	if errorCode != "" || complaint != "" {
		run.fail("%s: error code %q, and it was to succeed; Faroe complained: %q", action, errorCode, complaint)
	}
	return values
}

// refuses invokes an action that has to fail with this error code, and gives what Faroe complained of.
func (run *run) refuses(expected, action string, arguments arguments) string {
	_, errorCode, complaint := run.invoke(action, arguments)
	if errorCode != expected {
		run.fail("%s: error code %q, not %q; Faroe complained: %q", action, errorCode, expected, complaint)
	}
	return complaint
}

// letter is the last one to an address, which has to be of this kind.
func (run *run) letter(to, kind string) letter {
	letter := run.mail[to]
	if letter.kind != kind {
		run.fail("the last letter is %q, not %q", letter.kind, kind)
	}
	return letter
}

// bySQL looks after somebody with a statement of the README: whether it changed a user.
func (run *run) bySQL(statement string, account *account) bool {
	changed := run.ledger.keeper.ask("sql", account.emailAddress, statement)
	if changed != "0" && changed != "1" {
		run.fail("%q changed %s users", statement, changed)
	}
	return changed == "1"
}

// away has the store go away just before Faroe sends this action of the user server: Faroe gives an
// internal error, because the sidecar answers 503, and with the store back nothing is half done.
func (run *run) away(before, action string, arguments arguments) {
	run.endpoint.awayBefore = before
	complaint := run.refuses("internal_error", action, arguments)
	if run.endpoint.awayBefore != "" {
		run.fail("%s: Faroe does not send %s", action, before)
	}
	if !strings.Contains(complaint, "503") {
		run.fail("%s: the sidecar was to answer 503: %q", action, complaint)
	}
	run.storeGoes("back")
	run.checkStore(action + " without a store")
}
