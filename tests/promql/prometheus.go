package promqltest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// prometheus is a real server that asks sidecars for their metrics every second.
type prometheus struct {
	process *exec.Cmd
	address string
}

var listensOn = regexp.MustCompile(`[Ll]istening on.* address=(\S+)`)

// startPrometheus starts one with a configuration, in a folder for its data.
func startPrometheus(program, folder, configuration string) (*prometheus, error) {
	path := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(path, []byte(configuration), 0o600); err != nil {
		return nil, err
	}
	process := exec.Command(program, "--config.file", path, "--web.listen-address", "127.0.0.1:0",
		"--storage.tsdb.path", filepath.Join(folder, "data"))
	log, err := start(process)
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(patience, func() { _ = process.Process.Kill() })
	defer late.Stop()
	var said bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(log, &said))
	for lines.Scan() {
		if address := listensOn.FindSubmatch(lines.Bytes()); address != nil {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return &prometheus{process, string(address[1])}, nil
		}
	}
	_ = process.Wait()
	return nil, fmt.Errorf("%s does not serve:\n%s", program, said.String())
}

func (prometheus *prometheus) stop() { stop(prometheus.process) }

// series is one of a result, with its value now.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// query gives what an expression is now.
func (prometheus *prometheus) query(expression string) ([]series, error) {
	var data struct {
		Result []series `json:"result"`
	}
	err := prometheus.get("query?query="+url.QueryEscape(expression), &data)
	return data.Result, err
}

// get asks the API.
func (prometheus *prometheus) get(path string, data any) error {
	response, err := http.Get("http://" + prometheus.address + "/api/v1/" + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}
