// Whether what watches the sidecar (alerts, dashboard, PodMonitor) is true of the sidecar.
//
// It takes the rendered chart and the real program, and asks a real Prometheus. `tests/promql/run`
// provides them:
//
//	PROGRAM     the faroe-sidecar to start
//	PROMETHEUS  the prometheus to start
//	MANIFESTS   the output of `helm template`, with PodMonitor, PrometheusRule and dashboard
//	NAMESPACE   the namespace that it was rendered for
package promqltest

import (
	"fmt"
	"os"
	"testing"
)

// What all tests look at.
var (
	rendered manifests
	exposed  = exposition{}
	// One on the bundled store, and one on a gRPC store that makes mistakes.
	sidecars []*sidecar
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	for _, variable := range []string{"PROGRAM", "PROMETHEUS", "MANIFESTS", "NAMESPACE"} {
		if os.Getenv(variable) == "" {
			return 1, fmt.Errorf("%s is not set: start these tests by tests/promql/run", variable)
		}
	}
	var err error
	if rendered, err = readManifests(os.Getenv("MANIFESTS")); err != nil {
		return 1, err
	}
	folder, err := os.MkdirTemp("", "promqltest")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(folder)
	pki, err := newPKI(folder)
	if err != nil {
		return 1, err
	}
	store, stopStore, err := faultyStore(pki.server)
	if err != nil {
		return 1, err
	}
	defer stopStore()
	for _, options := range [][]string{
		{"--store", "sqlite://" + pki.path("users.sqlite")},
		{"--store", "grpcs://" + store, "--store-ca", pki.path("ca.pem"),
			"--store-cert", pki.path("client.pem"), "--store-key", pki.path("client.key")},
	} {
		sidecar, err := startSidecar(os.Getenv("PROGRAM"), pki, options...)
		if err != nil {
			return 1, err
		}
		defer sidecar.stop()
		sidecars = append(sidecars, sidecar)
	}
	if err := invokeEverything(); err != nil {
		return 1, err
	}
	for _, sidecar := range sidecars {
		if err := sidecar.metrics(exposed); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// invokeEverything makes each sidecar answer well, or as badly as its store does.
func invokeEverything() error {
	const user = `{"email_address":"a@example.com","password_hash":"aGFzaA==",` +
		`"password_hash_algorithm_id":"argon2id","password_salt":"c2FsdA=="}`
	for _, sidecar := range sidecars {
		for _, invocation := range [][2]string{
			{"create_user", user},
			{"create_user", user},
			{"get_user", `{"user_id":"nobody"}`},
			{"get_user_by_email_address", `{"email_address":"a@example.com"}`},
		} {
			status, answer, err := sidecar.invoke(invocation[0], invocation[1])
			if err != nil {
				return err
			}
			if status != 200 {
				return fmt.Errorf("%s: %d %s", invocation[0], status, answer)
			}
		}
		if status, answer, err := sidecar.invoke("no_action", `{}`); err != nil || status != 400 {
			return fmt.Errorf("no_action: %d %s %w", status, answer, err)
		}
	}
	return nil
}
