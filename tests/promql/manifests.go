package promqltest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// rules are a rule file of Prometheus, which is the spec of a PrometheusRule too.
type rules struct {
	Groups []struct {
		Name  string  `yaml:"name"`
		Rules []alert `yaml:"rules"`
	} `yaml:"groups"`
}

type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func (rules rules) alerts() []alert {
	var alerts []alert
	for _, group := range rules.Groups {
		alerts = append(alerts, group.Rules...)
	}
	return alerts
}

// manifests are what of a rendered chart is about watching it.
type manifests struct {
	monitor    monitor
	deployment deployment
	rules      rules
	dashboard  dashboard
}

// monitor is a PodMonitor.
type monitor struct {
	name     string
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	} `yaml:"selector"`
	Endpoints []struct {
		Port string `yaml:"port"`
		Path string `yaml:"path"`
	} `yaml:"podMetricsEndpoints"`
}

// deployment is what a PodMonitor looks at of a Deployment.
type deployment struct {
	Selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	} `yaml:"selector"`
	Template struct {
		Spec struct {
			Containers []struct {
				Ports []struct {
					Name string `yaml:"name"`
				} `yaml:"ports"`
			} `yaml:"containers"`
		} `yaml:"spec"`
	} `yaml:"template"`
}

// readManifests reads the output of `helm template`.
func readManifests(path string) (manifests, error) {
	var found manifests
	file, err := os.Open(path)
	if err != nil {
		return found, err
	}
	defer file.Close()
	kinds := map[string]int{}
	documents := yaml.NewDecoder(file)
	for {
		var manifest struct {
			Kind     string `yaml:"kind"`
			Metadata struct {
				Name   string            `yaml:"name"`
				Labels map[string]string `yaml:"labels"`
			} `yaml:"metadata"`
			Spec yaml.Node `yaml:"spec"`
			Data yaml.Node `yaml:"data"`
		}
		err := documents.Decode(&manifest)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return found, fmt.Errorf("%s: %w", path, err)
		}
		kind := manifest.Kind
		switch {
		case kind == "PodMonitor":
			found.monitor.name = manifest.Metadata.Name
			err = manifest.Spec.Decode(&found.monitor)
		case kind == "Deployment":
			err = manifest.Spec.Decode(&found.deployment)
		case kind == "PrometheusRule":
			err = manifest.Spec.Decode(&found.rules)
		case kind == "ConfigMap" && manifest.Metadata.Labels["grafana_dashboard"] == "1":
			kind = "dashboard"
			err = readDashboard(manifest.Data, &found.dashboard)
		}
		if err != nil {
			return found, fmt.Errorf("%s: %s: %w", path, kind, err)
		}
		kinds[kind]++
	}
	for _, kind := range []string{"PodMonitor", "Deployment", "PrometheusRule", "dashboard"} {
		if kinds[kind] != 1 {
			return found, fmt.Errorf("%s: %d of %s, not one", path, kinds[kind], kind)
		}
	}
	return found, nil
}

// readDashboard reads the one file of a ConfigMap.
func readDashboard(data yaml.Node, dashboard *dashboard) error {
	var files map[string]string
	if err := data.Decode(&files); err != nil {
		return err
	}
	if len(files) != 1 {
		return fmt.Errorf("%d files, not one", len(files))
	}
	for name, text := range files {
		if !strings.HasSuffix(name, ".json") {
			return fmt.Errorf("%q: Grafana's sidecar takes files of JSON alone", name)
		}
		if err := json.Unmarshal([]byte(text), dashboard); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
