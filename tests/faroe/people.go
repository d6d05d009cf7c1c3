package main

import "fmt"

// newAddress is an email address that nobody has.
func (run *run) newAddress() string {
	run.people++
	return fmt.Sprintf("person-%d@planted.example", run.people)
}

// newPassword is a password that nobody has.
func (run *run) newPassword() string {
	run.people++
	return fmt.Sprintf("planted password %d", run.people)
}

// signedUp is a new person, signed in.
func (run *run) signedUp() (*account, string) {
	emailAddress, password := run.newAddress(), run.newPassword()
	signup := run.preparedSignUp(emailAddress, password)
	return run.completeSignUp(signup, emailAddress, password)
}

// preparedSignUp is a sign-up that only has to be completed: the code was entered, and a password set.
func (run *run) preparedSignUp(emailAddress, password string) (signup string) {
	signup = run.does("create_signup", arguments{"email_address": emailAddress}).SignupToken
	run.does("verify_signup_email_address_verification_code", arguments{
		"signup_token":                    signup,
		"email_address_verification_code": run.letter(emailAddress, "code").secret,
	})
	run.does("set_signup_password", arguments{"signup_token": signup, "password": password})
	return signup
}

func (run *run) completeSignUp(signup, emailAddress, password string) (*account, string) {
	values := run.does("complete_signup", arguments{"signup_token": signup})
	account := &account{id: values.Session.UserId, emailAddress: emailAddress, password: password}
	run.ledger.accounts = append(run.ledger.accounts, account)
	run.checkStore("a sign-up")
	return account, values.SessionToken
}

func (run *run) signIn(account *account) (session string) {
	signin := run.preparedSignIn(account)
	session = run.does("complete_signin", arguments{"signin_token": signin}).SessionToken
	if name := run.letter(account.emailAddress, "signed in").displayName; name != account.displayName {
		run.fail("the letter about a sign-in has another name than the store")
	}
	return session
}

// preparedSignIn is a sign-in that only has to be completed.
func (run *run) preparedSignIn(account *account) (signin string) {
	signin = run.does("create_signin", arguments{"user_email_address": account.emailAddress}).SigninToken
	run.does("verify_signin_user_password", arguments{"signin_token": signin, "password": account.password})
	return signin
}

// doesNotSignIn tries a password that must not be accepted.
func (run *run) doesNotSignIn(emailAddress, password string) {
	signin := run.does("create_signin", arguments{"user_email_address": emailAddress}).SigninToken
	run.refuses("incorrect_password", "verify_signin_user_password",
		arguments{"signin_token": signin, "password": password})
	run.refuses("user_first_factor_not_verified", "complete_signin", arguments{"signin_token": signin})
}

// isSignedIn checks a session, which has to be that of the account.
func (run *run) isSignedIn(account *account, session string) {
	values := run.does("get_session", arguments{"session_token": session})
	if values.Session.UserId != account.id {
		run.fail("get_session: the session is somebody else's")
	}
}

func (run *run) isSignedOut(session string) {
	run.refuses("invalid_session_token", "get_session", arguments{"session_token": session})
}

// preparedPasswordUpdate is an update of a password that only has to be completed.
func (run *run) preparedPasswordUpdate(account *account, session, password string) arguments {
	update := run.does("create_user_password_update", arguments{"session_token": session})
	both := arguments{"session_token": session, "user_password_update_token": update.UserPasswordUpdateToken}
	run.does("verify_user_password_update_user_password", both.and("password", account.password))
	run.does("set_user_password_update_new_password", both.and("password", password))
	return both
}

// preparedEmailAddressUpdate is an update of an email address that only has to be completed.
func (run *run) preparedEmailAddressUpdate(account *account, session, emailAddress string) arguments {
	update := run.does("create_user_email_address_update",
		arguments{"session_token": session, "new_email_address": emailAddress})
	both := arguments{
		"session_token":                   session,
		"user_email_address_update_token": update.UserEmailAddressUpdateToken,
	}
	run.does("verify_user_email_address_update_email_address_verification_code",
		both.and("email_address_verification_code", run.letter(emailAddress, "code").secret))
	run.does("verify_user_email_address_update_user_password", both.and("password", account.password))
	return both
}

// preparedReset is a reset of a password that only has to be completed.
func (run *run) preparedReset(account *account, password string) arguments {
	reset := run.does("create_user_password_reset", arguments{"user_email_address": account.emailAddress})
	token := arguments{"user_password_reset_token": reset.UserPasswordResetToken}
	temporary := run.letter(account.emailAddress, "temporary password").secret
	run.does("verify_user_password_reset_temporary_password", token.and("temporary_password", temporary))
	run.does("set_user_password_reset_new_password", token.and("password", password))
	return token
}

// preparedDeletion is a deletion that only has to be completed.
func (run *run) preparedDeletion(account *account, session string) arguments {
	deletion := run.does("create_user_deletion", arguments{"session_token": session})
	both := arguments{"session_token": session, "user_deletion_token": deletion.UserDeletionToken}
	run.does("verify_user_deletion_user_password", both.and("password", account.password))
	return both
}

// and is the arguments with another one.
func (these arguments) and(name, value string) arguments {
	all := arguments{name: value}
	for name, value := range these {
		all[name] = value
	}
	return all
}
