package promqltest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// sidecar is the real program, serving.
type sidecar struct {
	process         *exec.Cmd
	endpoint, admin string
	client          *http.Client
}

// startSidecar starts the program on free ports and waits until it is ready.
func startSidecar(program string, pki pki, options ...string) (*sidecar, error) {
	process := exec.Command(program, append([]string{"serve",
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json",
		"--tls-cert", pki.path("server.pem"), "--tls-key", pki.path("server.key"),
		"--client-ca", pki.path("ca.pem"), "--client-crl", pki.path("ca.crl"),
		"--allow-client", "dns:faroe",
	}, options...)...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "FAROE_SIDECAR_") && !strings.HasPrefix(variable, "OTEL_") {
			process.Env = append(process.Env, variable)
		}
	}
	log, err := start(process)
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(patience, func() { _ = process.Process.Kill() })
	defer late.Stop()
	sidecar := &sidecar{process: process, client: &http.Client{
		Transport: &http.Transport{TLSClientConfig: pki.client, ForceAttemptHTTP2: true},
		Timeout:   patience,
	}}
	var said bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(log, &said))
	for isReady := false; !isReady || sidecar.admin == ""; {
		if !lines.Scan() {
			_ = process.Wait()
			return nil, fmt.Errorf("%s does not serve:\n%s", program, said.String())
		}
		var line struct {
			Message, Endpoint, Admin string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			continue
		}
		switch line.Message {
		case "listening":
			sidecar.endpoint = "https://" + line.Endpoint + "/"
			sidecar.admin = line.Admin
		case "the store is ready":
			isReady = true
		}
	}
	// Nobody reads on, and the program must not wait for that.
	go func() { _, _ = io.Copy(io.Discard, log) }()
	return sidecar, nil
}

func (sidecar *sidecar) stop() { stop(sidecar.process) }

// invoke invokes an action over mutual TLS and gives the status and the answer.
func (sidecar *sidecar) invoke(action, arguments string) (int, string, error) {
	body := fmt.Sprintf(`{"action":%q,"arguments":%s}`, action, arguments)
	response, err := sidecar.client.Post(sidecar.endpoint, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// metrics adds what the sidecar exposes.
func (sidecar *sidecar) metrics(exposed exposition) error {
	response, err := http.Get("http://" + sidecar.admin + "/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return exposed.read(response.Body)
}

// faultyStore is a gRPC UserStore that answers, and never rightly: NOT_FOUND, which breaks the
// contract for CreateUser, and INTERNAL to everything else.
func faultyStore(config *tls.Config) (address string, stop func(), err error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return "", nil, err
	}
	answers := func(response http.ResponseWriter, request *http.Request) {
		status := "13"
		switch {
		case strings.HasSuffix(request.URL.Path, "/CreateUser"):
			status = "5"
		case strings.HasPrefix(request.URL.Path, "/grpc.health.v1."):
			status = "12"
		}
		response.Header().Set("Content-Type", "application/grpc")
		response.Header().Set("Grpc-Status", status)
	}
	server := &http.Server{Handler: http.HandlerFunc(answers), ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(listener) }()
	return listener.Addr().String(), func() { _ = server.Close() }, nil
}
