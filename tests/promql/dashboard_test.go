package promqltest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestTheDashboardHoldsTogether(t *testing.T) {
	for _, complaint := range rendered.dashboard.complaints() {
		t.Error(complaint)
	}
}

func TestEveryPanelNamesWhatTheProgramExposes(t *testing.T) {
	for _, panel := range rendered.dashboard.Panels {
		for _, target := range panel.Targets {
			for _, complaint := range complaints(expanded(target.Expr, "5m"), exposed) {
				t.Errorf("%s, %s: %s", panel.Title, target.RefID, complaint)
			}
		}
	}
}

func TestEveryVariableHasSomethingToChooseFrom(t *testing.T) {
	query := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	for _, variable := range rendered.dashboard.Templating.List {
		if variable.Type != "query" {
			continue
		}
		parts := query.FindStringSubmatch(variable.Definition)
		if parts == nil || !slices.Contains(targetLabels, parts[2]) {
			t.Errorf("%s: %q gives no label of a target", variable.Name, variable.Definition)
			continue
		}
		for _, complaint := range complaints(expanded(parts[1], "5m"), exposed) {
			t.Errorf("%s: %s", variable.Name, complaint)
		}
	}
}

func TestTheDashboardNamesEveryAlertAndNoOther(t *testing.T) {
	named := map[string]bool{}
	for _, panel := range rendered.dashboard.Panels {
		for _, name := range regexp.MustCompile(`FaroeSidecar\w+`).FindAllString(panel.Description, -1) {
			named[name] = true
		}
	}
	for _, alert := range rendered.rules.alerts() {
		if !named[alert.Alert] {
			t.Errorf("%s belongs to no panel", alert.Alert)
		}
		delete(named, alert.Alert)
	}
	for name := range named {
		t.Errorf("there is no alert %s", name)
	}
}

// TestPrometheusTakesTheRulesAndHasDataForEveryPanel shows that a real Prometheus evaluates each
// alert without an error, that each panel shows something, and that what its legend names is there.
func TestPrometheusTakesTheRulesAndHasDataForEveryPanel(t *testing.T) {
	folder := t.TempDir()
	rules, err := yaml.Marshal(rendered.rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "rules.yml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	job := os.Getenv("NAMESPACE") + "/" + rendered.monitor.name
	configuration := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"+
		"rule_files: [rules.yml]\nscrape_configs:\n- job_name: %q\n  static_configs:\n", job)
	for i, sidecar := range sidecars {
		configuration += fmt.Sprintf("  - {targets: [%q], labels: {namespace: %q, pod: \"sidecar-%d\"}}\n",
			sidecar.admin, os.Getenv("NAMESPACE"), i)
	}
	server, err := startPrometheus(os.Getenv("PROMETHEUS"), folder, configuration)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.stop)

	for _, panel := range rendered.dashboard.Panels {
		for _, target := range panel.Targets {
			eventually(t, fmt.Sprintf("%s, %s", panel.Title, target.RefID), func() error {
				if err := invokeEverything(); err != nil {
					return err
				}
				found, err := server.query(expanded(target.Expr, "10s"))
				if err != nil {
					return err
				}
				return shows(found, target.LegendFormat)
			})
		}
	}
	eventually(t, "the rules", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := server.get("rules", &data); err != nil {
			return err
		}
		healthy := 0
		for _, group := range data.Groups {
			for _, rule := range group.Rules {
				if rule.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", rule.Name, rule.Health, rule.LastError)
				}
				healthy++
			}
		}
		if wanted := len(rendered.rules.alerts()); healthy != wanted {
			return fmt.Errorf("%d rules, not %d", healthy, wanted)
		}
		return nil
	})
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// shows says why series make no lines with this legend.
func shows(found []series, legend string) error {
	hasNumber := slices.ContainsFunc(found, func(series series) bool {
		value, err := strconv.ParseFloat(fmt.Sprint(series.Value[1]), 64)
		return err == nil && value == value
	})
	if !hasNumber {
		return fmt.Errorf("no data in %d series", len(found))
	}
	for _, label := range legendLabel.FindAllStringSubmatch(legend, -1) {
		for _, series := range found {
			if series.Metric[label[1]] == "" {
				return fmt.Errorf("the legend is %s, and a series has the labels %v", legend, series.Metric)
			}
		}
	}
	return nil
}

// eventually tries until it succeeds, for as long as there is patience.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	begin := time.Now()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Since(begin) > patience {
			t.Errorf("%s: %v", what, err)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
