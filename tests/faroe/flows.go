package main

import (
	"fmt"
	"strings"
)

// flows are what a Faroe server does for people. Each has people of its own, and everybody in the
// store is looked at after each step of each.
var flows = []struct {
	name string
	take func(*run)
}{
	{"sign-up", (*run).signUpFlow},
	{"two sign-ups for one address", (*run).twoSignUpsFlow},
	{"sign-in", (*run).signInFlow},
	{"session check", (*run).sessionCheckFlow},
	{"password update", (*run).passwordUpdateFlow},
	{"email address update", (*run).emailAddressUpdateFlow},
	{"password reset", (*run).passwordResetFlow},
	{"sign-out of everybody", (*run).signOutFlow},
	{"disabled user", (*run).disabledFlow},
	{"user deletion", (*run).deletionFlow},
	{"store that goes away", (*run).awayFlow},
}

func runFlows(sidecar *userServer) {
	run := newRun(sidecar)
	for _, flow := range flows {
		run.flow = flow.name
		flow.take(run)
		run.checkStore("everything")
		fmt.Println("passed", flow.name)
	}
}

func (run *run) signUpFlow() {
	emailAddress, password := run.newAddress(), run.newPassword()
	signup := arguments{
		"signup_token": run.does("create_signup", arguments{"email_address": emailAddress}).SignupToken,
	}
	run.refuses("incorrect_email_address_verification_code", "verify_signup_email_address_verification_code",
		signup.and("email_address_verification_code", "wrong"))
	run.refuses("email_address_not_verified", "complete_signup", signup)
	run.does("verify_signup_email_address_verification_code",
		signup.and("email_address_verification_code", run.letter(emailAddress, "code").secret))
	run.refuses("weak_password", "set_signup_password", signup.and("password", leakedPassword))
	run.does("set_signup_password", signup.and("password", password))
	run.checkStore("a sign-up that is not complete")

	account, session := run.completeSignUp(signup["signup_token"], emailAddress, password)
	run.isSignedIn(account, session)
	run.refuses("invalid_signup_token", "complete_signup", signup)
	run.refuses("email_address_already_used", "create_signup", arguments{"email_address": emailAddress})
	run.checkStore("a sign-up that is over")

	// Letters count as they are: this is another address.
	other, otherSession := run.completeSignUp(run.preparedSignUp(strings.ToUpper(emailAddress), password),
		strings.ToUpper(emailAddress), password)
	if other.id == account.id {
		run.fail("two users have one ID")
	}
	run.isSignedIn(other, otherSession)
}

func (run *run) twoSignUpsFlow() {
	emailAddress, password := run.newAddress(), run.newPassword()
	first := run.preparedSignUp(emailAddress, password)
	second := run.preparedSignUp(emailAddress, run.newPassword())
	account, session := run.completeSignUp(first, emailAddress, password)
	run.refuses("invalid_signup_token", "complete_signup", arguments{"signup_token": second})
	run.checkStore("the second sign-up")
	run.isSignedIn(account, session)
	run.signIn(account)
}

func (run *run) signInFlow() {
	account, first := run.signedUp()
	run.refuses("user_not_found", "create_signin", arguments{"user_email_address": run.newAddress()})
	run.refuses("user_not_found", "create_signin",
		arguments{"user_email_address": strings.ToUpper(account.emailAddress)})
	run.doesNotSignIn(account.emailAddress, run.newPassword())
	second := run.signIn(account)
	if first == second {
		run.fail("two sessions have one token")
	}
	run.isSignedIn(account, first)
	run.isSignedIn(account, second)
}

func (run *run) sessionCheckFlow() {
	account, session := run.signedUp()
	run.isSignedIn(account, session)
	run.isSignedOut(session + "x")
	run.isSignedIn(account, session)
	run.does("delete_session", arguments{"session_token": session})
	run.isSignedOut(session)
}

func (run *run) passwordUpdateFlow() {
	account, session := run.signedUp()
	old, password := account.password, run.newPassword()

	// A wrong password changes nothing.
	started := run.does("create_user_password_update", arguments{"session_token": session})
	run.refuses("incorrect_password", "verify_user_password_update_user_password", arguments{
		"session_token":              session,
		"user_password_update_token": started.UserPasswordUpdateToken,
		"password":                   password,
	})
	run.checkStore("a wrong password")

	// What was under way with the old password ends with it.
	update := run.preparedPasswordUpdate(account, session, password)
	stale := run.preparedPasswordUpdate(account, session, run.newPassword())
	signin := arguments{"signin_token": run.preparedSignIn(account)}
	deletion := run.preparedDeletion(account, session)
	run.does("complete_user_password_update", update)
	account.password = password
	account.passwordHashCounter++
	run.checkStore("the update")
	run.refuses("invalid_password_update_token", "complete_user_password_update", update)
	run.refuses("invalid_password_update_token", "complete_user_password_update", stale)
	run.refuses("invalid_signin_token", "complete_signin", signin)
	run.refuses("invalid_user_deletion_token", "complete_user_deletion", deletion)
	run.checkStore("what was under way")

	run.isSignedIn(account, session)
	run.doesNotSignIn(account.emailAddress, old)
	run.signIn(account)
}

func (run *run) emailAddressUpdateFlow() {
	account, session := run.signedUp()
	other, otherSession := run.signedUp()
	old, emailAddress := account.emailAddress, run.newAddress()

	run.refuses("email_address_already_used", "create_user_email_address_update",
		arguments{"session_token": session, "new_email_address": other.emailAddress})
	started := arguments{
		"session_token": session,
		"user_email_address_update_token": run.does("create_user_email_address_update",
			arguments{"session_token": session, "new_email_address": emailAddress}).UserEmailAddressUpdateToken,
	}
	run.refuses("incorrect_email_address_verification_code",
		"verify_user_email_address_update_email_address_verification_code",
		started.and("email_address_verification_code", "wrong"))
	run.does("verify_user_email_address_update_email_address_verification_code",
		started.and("email_address_verification_code", run.letter(emailAddress, "code").secret))
	run.refuses("incorrect_password", "verify_user_email_address_update_user_password",
		started.and("password", run.newPassword()))
	run.refuses("user_identity_not_verified", "complete_user_email_address_update", started)
	run.checkStore("a wrong password")

	// Two want the same address; the second does not get it, and keeps the old one.
	update := run.preparedEmailAddressUpdate(account, session, emailAddress)
	stale := run.preparedEmailAddressUpdate(account, session, run.newAddress())
	late := run.preparedEmailAddressUpdate(other, otherSession, emailAddress)
	reset := run.preparedReset(account, run.newPassword())
	run.does("complete_user_email_address_update", update)
	account.emailAddress = emailAddress
	account.emailAddressCounter++
	run.checkStore("the update")
	run.refuses("invalid_user_email_address_update_token", "complete_user_email_address_update", update)
	run.refuses("invalid_user_email_address_update_token", "complete_user_email_address_update", stale)
	run.refuses("invalid_user_email_address_update_token", "complete_user_email_address_update", late)
	run.refusesReset(reset)
	run.checkStore("what was under way")

	run.isSignedIn(account, session)
	run.isSignedIn(other, otherSession)
	run.refuses("user_not_found", "create_signin", arguments{"user_email_address": old})
	run.signIn(account)
	run.signIn(other)
	// The old address is free.
	run.completeSignUp(run.preparedSignUp(old, account.password), old, account.password)
}

// refusesReset tries a reset of a password whose token is not good any more. Faroe means to say that,
// and says that it had an error.
func (run *run) refusesReset(reset arguments) {
	complaint := run.refuses("internal_error", "complete_user_password_reset", reset)
	if !strings.HasSuffix(complaint, "user password reset not found") {
		run.fail("complete_user_password_reset: another error than that of a wrong token: %q", complaint)
	}
}

func (run *run) passwordResetFlow() {
	account, session := run.signedUp()
	old, password := account.password, run.newPassword()
	started := arguments{
		"user_password_reset_token": run.does("create_user_password_reset",
			arguments{"user_email_address": account.emailAddress}).UserPasswordResetToken,
	}
	run.refuses("incorrect_temporary_password", "verify_user_password_reset_temporary_password",
		started.and("temporary_password", "wrong"))
	run.refuses("user_first_factor_not_verified", "complete_user_password_reset", started)
	run.checkStore("a wrong temporary password")

	reset := run.preparedReset(account, password)
	// Faroe leaves it to the store to see that this one is from before the other.
	replayed := run.preparedReset(account, run.newPassword())
	newSession := run.does("complete_user_password_reset", reset).SessionToken
	account.password = password
	account.passwordHashCounter++
	run.checkStore("the reset")
	run.refuses("internal_conflict", "complete_user_password_reset", replayed)
	run.refusesReset(reset)
	run.checkStore("a second reset")

	run.isSignedIn(account, newSession)
	run.isSignedIn(account, session)
	run.doesNotSignIn(account.emailAddress, old)
	run.signIn(account)
}

func (run *run) signOutFlow() {
	account, session := run.signedUp()
	other, otherSession := run.signedUp()
	second, third := run.signIn(account), run.signIn(account)
	run.does("delete_all_sessions", arguments{"session_token": second})
	account.sessionsCounter++
	run.checkStore("the sign-out")
	for _, session := range []string{session, second, third} {
		run.isSignedOut(session)
		run.refuses("invalid_session_token", "delete_all_sessions", arguments{"session_token": session})
	}
	run.checkStore("a sign-out without a session")
	run.isSignedIn(other, otherSession)

	session = run.signIn(account)
	run.isSignedIn(account, session)
	run.bySQL("Sign out everywhere", account)
	account.sessionsCounter++
	run.checkStore("the sign-out by SQL")
	run.isSignedOut(session)
	run.isSignedIn(account, run.signIn(account))
}

func (run *run) disabledFlow() {
	account, session := run.signedUp()
	other, otherSession := run.signedUp()
	unused := run.signIn(account)
	run.bySQL("Rename", account)
	account.displayName = "Alice"
	run.signIn(account)

	signin := arguments{"signin_token": run.preparedSignIn(account)}
	reset := run.preparedReset(account, run.newPassword())
	lateSignin := arguments{"signin_token": run.preparedSignIn(account)}
	if !run.bySQL("Disable", account) {
		run.fail("nobody was disabled")
	}
	account.disabled = true
	account.disabledCounter++
	run.checkStore("disabling")
	run.isSignedOut(session)
	run.refuses("user_disabled", "create_signin", arguments{"user_email_address": account.emailAddress})
	run.refuses("user_disabled", "create_user_password_reset",
		arguments{"user_email_address": account.emailAddress})
	run.refuses("invalid_signin_token", "complete_signin", signin)
	run.refusesReset(reset)
	run.isSignedIn(other, otherSession)
	if run.bySQL("Disable", account) {
		run.fail("somebody was disabled twice")
	}
	run.checkStore("what a disabled user tried")

	if !run.bySQL("Enable", account) {
		run.fail("nobody was enabled")
	}
	account.disabled = false
	account.disabledCounter++
	run.checkStore("enabling")
	// What Faroe did not look at meanwhile is of no use either: the counter has moved.
	run.isSignedOut(unused)
	run.refuses("invalid_signin_token", "complete_signin", lateSignin)
	run.isSignedIn(account, run.signIn(account))
}

func (run *run) deletionFlow() {
	account, session := run.signedUp()
	other, otherSession := run.signedUp()
	second := run.signIn(account)
	started := arguments{
		"session_token":       session,
		"user_deletion_token": run.does("create_user_deletion", arguments{"session_token": session}).UserDeletionToken,
	}
	run.refuses("incorrect_password", "verify_user_deletion_user_password",
		started.and("password", run.newPassword()))
	run.refuses("user_identity_not_verified", "complete_user_deletion", started)
	run.checkStore("a wrong password")

	signin := arguments{"signin_token": run.preparedSignIn(account)}
	run.does("complete_user_deletion", run.preparedDeletion(account, session))
	run.ledger.forget(account)
	run.checkStore("the deletion")
	run.isSignedOut(session)
	run.isSignedOut(second)
	run.refuses("invalid_signin_token", "complete_signin", signin)
	run.refuses("user_not_found", "create_signin", arguments{"user_email_address": account.emailAddress})
	run.isSignedIn(other, otherSession)

	signup := run.preparedSignUp(account.emailAddress, account.password)
	again, _ := run.completeSignUp(signup, account.emailAddress, account.password)
	if again.id == account.id {
		run.fail("the ID of a deleted user was used again")
	}
}

// awayFlow has the store go away before each action of the user server. Afterwards everything is as
// it was, nobody is signed out, and what could not be completed is completed then.
func (run *run) awayFlow() {
	account, session := run.signedUp()
	token := arguments{"session_token": session}

	emailAddress, password := run.newAddress(), run.newPassword()
	signup := run.preparedSignUp(emailAddress, password)
	run.away("create_user", "complete_signup", arguments{"signup_token": signup})
	run.completeSignUp(signup, emailAddress, password)

	run.away("get_user", "get_session", token)
	run.isSignedIn(account, session)
	run.away("get_user_by_email_address", "create_signin", arguments{"user_email_address": account.emailAddress})
	signin := arguments{"signin_token": run.preparedSignIn(account)}
	run.away("get_user", "complete_signin", signin)
	run.does("complete_signin", signin)

	old, emailAddress := account.emailAddress, run.newAddress()
	update := run.preparedEmailAddressUpdate(account, session, emailAddress)
	run.away("update_user_email_address", "complete_user_email_address_update", update)
	run.isSignedIn(account, session)
	run.does("complete_user_email_address_update", update)
	account.emailAddress = emailAddress
	account.emailAddressCounter++
	run.checkStore("the update of an email address")
	run.refuses("user_not_found", "create_signin", arguments{"user_email_address": old})

	password = run.newPassword()
	update = run.preparedPasswordUpdate(account, session, password)
	run.away("update_user_password_hash", "complete_user_password_update", update)
	run.does("complete_user_password_update", update)
	account.password = password
	account.passwordHashCounter++
	run.checkStore("the update of a password")

	password = run.newPassword()
	reset := run.preparedReset(account, password)
	run.away("update_user_password_hash", "complete_user_password_reset", reset)
	run.does("complete_user_password_reset", reset)
	account.password = password
	account.passwordHashCounter++
	run.checkStore("the reset of a password")

	run.away("increment_user_sessions_counter", "delete_all_sessions", token)
	run.isSignedIn(account, session)
	run.does("delete_all_sessions", token)
	account.sessionsCounter++
	run.checkStore("the sign-out of everybody")
	run.isSignedOut(session)

	session = run.signIn(account)
	deletion := run.preparedDeletion(account, session)
	run.away("delete_user", "complete_user_deletion", deletion)
	run.isSignedIn(account, session)
	run.does("complete_user_deletion", deletion)
	run.ledger.forget(account)
	run.checkStore("the deletion")
	run.isSignedOut(session)
}
