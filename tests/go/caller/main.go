// Invokes an action as a Faroe server does: with a client certificate, over HTTP/2.
//
//	go run . https://localhost:8443/ ca.pem client.pem client.key <invocation.json
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func newClient(caFile, certFile, keyFile string) (*http.Client, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", caFile)
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{
				RootCAs:      roots,
				Certificates: []tls.Certificate{certificate},
			},
			// A TLSClientConfig of one's own turns HTTP/2 off otherwise.
			ForceAttemptHTTP2: true,
		},
		Timeout: 10 * time.Second,
	}, nil
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: caller URL CA CERTIFICATE KEY <BODY")
	}
	client, err := newClient(os.Args[2], os.Args[3], os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	response, err := client.Post(os.Args[1], "application/json", os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n%s\n", response.Proto, response.Status, body)
}
