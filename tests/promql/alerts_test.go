package promqltest

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	alertsFile  = "../../deploy/helm/faroe-sidecar/files/alerts.yaml"
	runbookFile = "../../deploy/RUNBOOK.md"
)

func TestThePodMonitorFindsTheAdminPortOfTheDeployment(t *testing.T) {
	selected, pods := rendered.monitor.Selector.MatchLabels, rendered.deployment.Selector.MatchLabels
	if len(pods) == 0 || !maps.Equal(selected, pods) {
		t.Errorf("it selects %v, and the Deployment %v", selected, pods)
	}
	var ports []string
	for _, container := range rendered.deployment.Template.Spec.Containers {
		for _, port := range container.Ports {
			ports = append(ports, port.Name)
		}
	}
	if len(rendered.monitor.Endpoints) != 1 {
		t.Fatalf("%d endpoints, not one", len(rendered.monitor.Endpoints))
	}
	endpoint := rendered.monitor.Endpoints[0]
	if !slices.Contains(ports, endpoint.Port) || endpoint.Path != "/metrics" {
		t.Errorf("it asks %s on port %q, and the pods have the ports %q", endpoint.Path, endpoint.Port, ports)
	}
}

func TestThePrometheusRuleIsTheFileOfAlertsForTheJobOfThePodMonitor(t *testing.T) {
	job := os.Getenv("NAMESPACE") + "/" + rendered.monitor.name
	text, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(`job="faroe-sidecar"`), []byte(`job="`+job+`"`))
	var file rules
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(rendered.rules, file) {
		t.Errorf("rendered:\n%+v\nthe file, for job %s:\n%+v", rendered.rules, job, file)
	}
	for _, alert := range file.alerts() {
		parsed, err := parse(alert.Expr)
		if err != nil {
			t.Errorf("%s: %v", alert.Alert, err)
			continue
		}
		for _, selector := range selectors(parsed) {
			if !strings.Contains(selector.String(), `job="`+job+`"`) {
				t.Errorf("%s: %s is about other jobs too", alert.Alert, selector)
			}
		}
	}
}

func TestEveryAlertNamesWhatTheProgramExposes(t *testing.T) {
	known := exposition{"up": {}}
	for name, labels := range exposed {
		known[name] = labels
	}
	for _, alert := range rendered.rules.alerts() {
		for _, complaint := range complaints(alert.Expr, known) {
			t.Errorf("%s: %s", alert.Alert, complaint)
		}
	}
}

func TestEveryAlertSaysWhatItIsAndWhatToDo(t *testing.T) {
	for _, alert := range rendered.rules.alerts() {
		for _, annotation := range []string{"summary", "description", "runbook"} {
			if alert.Annotations[annotation] == "" {
				t.Errorf("%s has no %s", alert.Alert, annotation)
			}
		}
		if !slices.Contains([]string{"warning", "critical"}, alert.Labels["severity"]) {
			t.Errorf("%s has the severity %q", alert.Alert, alert.Labels["severity"])
		}
		if !strings.HasSuffix(alert.Annotations["runbook"], "deploy/RUNBOOK.md, "+alert.Alert+".") {
			t.Errorf("%s does not say where its runbook is", alert.Alert)
		}
	}
}

func TestTheRunbookHasASectionForEachAlertAndNoOther(t *testing.T) {
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	var sections, alerts []string
	for _, heading := range regexp.MustCompile(`(?m)^## (FaroeSidecar\w+)$`).FindAllSubmatch(text, -1) {
		sections = append(sections, string(heading[1]))
	}
	for _, alert := range rendered.rules.alerts() {
		alerts = append(alerts, alert.Alert)
	}
	if !slices.Equal(sections, alerts) {
		t.Errorf("sections:\n%q\nalerts:\n%q", sections, alerts)
	}
}
