package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

type userServer struct {
	url    string
	client *http.Client
}

func newUserServer(url, ca, certificate, key string) (*userServer, error) {
	identity, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate authority in " + ca)
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{identity},
			RootCAs:      roots,
		},
		// A TLS configuration of one's own turns HTTP/2 off otherwise.
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   90 * time.Second,
	}
	return &userServer{url, &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// SendActionInvocationEndpointRequest is what faroe.NewUserServerClient needs.
func (server *userServer) SendActionInvocationEndpointRequest(body string) (string, error) {
	response, err := server.client.Post(server.url, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("user server: %s: %s", response.Status, answer)
	}
	return string(answer), nil
}
