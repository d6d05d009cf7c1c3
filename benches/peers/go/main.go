// A user server as people write it in Go: net/http with client certificates, and the usual driver of
// each database under database/sql. It is measured beside faroe-sidecar.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

const alphabet = "abcdefghjkmnopqrstuvwxyz23456789"

func main() {
	db, err := open(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	config, err := tlsConfig()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	server := http.Server{Handler: endpoint{actionsOn(db)}, TLSConfig: config}
	log.Fatal(server.ServeTLS(listener, "", ""))
}

func tlsConfig() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(os.Getenv("TLS_CERT"), os.Getenv("TLS_KEY"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(os.Getenv("CLIENT_CA"))
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(authority) {
		return nil, errors.New("CLIENT_CA has no certificate")
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    authorities,
	}, nil
}

type endpoint struct {
	actions map[string]action
}

// An action gives the user, if it has one, or an error.
type action func(ctx context.Context, arguments arguments) (*user, error)

type success struct {
	OK                 bool   `json:"ok"`
	ActionInvocationID string `json:"action_invocation_id"`
	Values             values `json:"values"`
}

type values struct {
	User *user `json:"user,omitempty"`
}

type failed struct {
	OK                 bool   `json:"ok"`
	ActionInvocationID string `json:"action_invocation_id"`
	ErrorCode          string `json:"error_code"`
}

func (e endpoint) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		http.Error(response, "use POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, 64<<10))
	if err != nil {
		http.Error(response, "the body did not come", http.StatusBadRequest)
		return
	}
	var invocation struct {
		Action    string    `json:"action"`
		Arguments arguments `json:"arguments"`
	}
	if json.Unmarshal(body, &invocation) != nil {
		http.Error(response, "no action invocation", http.StatusBadRequest)
		return
	}
	action, known := e.actions[invocation.Action]
	if !known {
		http.Error(response, "no such action", http.StatusBadRequest)
		return
	}
	id := invocationID()
	user, err := action(request.Context(), invocation.Arguments)
	var answer any = success{true, id, values{user}}
	if err != nil {
		answer = failed{false, id, errorCode(err)}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		http.Error(response, "no answer", http.StatusInternalServerError)
		return
	}
	response.Header().Set("Content-Type", "application/json")
	response.Write(text)
}

func invocationID() string {
	var random [24]byte
	rand.Read(random[:])
	for i, b := range random {
		random[i] = alphabet[b&31]
	}
	return string(random[:])
}
