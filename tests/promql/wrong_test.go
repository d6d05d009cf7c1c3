package promqltest

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// What is wrong is found: these tests are about the others.

func TestAWrongExpressionIsFound(t *testing.T) {
	for expression, complaint := range map[string]string{
		`sum(rate(faroe_sidecar_connections[5m])`:                                     "parse error",
		`faroe_sidecar_connection`:                                                    `no metric "faroe_sidecar_connection"`,
		`faroe_sidecar_action_duration_seconds`:                                       "no metric",
		`faroe_sidecar_tls_reloads_total{reason="failed"}`:                            `no label "reason"`,
		`faroe_sidecar_tls_reloads_total{result="failure"}`:                           `not exposed with result="failure"`,
		`faroe_sidecar_rejected_requests_total{reason=~"path|max_load"}`:              `not exposed with reason="max_load"`,
		`sum by (results) (faroe_sidecar_tls_reloads_total)`:                          `has a label "results"`,
		`sum without (le) (faroe_sidecar_tls_reloads_total)`:                          `has a label "le"`,
		`faroe_sidecar_connections / on (poD) faroe_sidecar_connections`:              `has a label "poD"`,
		`absent(up{job="a"})`:                                                         `no metric "up"`,
		`min(faroe_sidecar_tls_certificate_expiry_timestamp_seconds{file="tls-key"})`: `file="tls-key"`,
	} {
		found := complaints(expression, exposed)
		isFound := slices.ContainsFunc(found, func(found string) bool {
			return strings.Contains(found, complaint)
		})
		if !isFound {
			t.Errorf("%s: found %q, not %q", expression, found, complaint)
		}
	}
}

func TestAWrongDashboardIsFound(t *testing.T) {
	for complaint, spoil := range map[string]func(*dashboard){
		"has the ID of":                        func(d *dashboard) { d.Panels[2].ID = d.Panels[1].ID },
		"lies on":                              func(d *dashboard) { d.Panels[2].GridPos.X-- },
		"is not within the 24 columns":         func(d *dashboard) { d.Panels[2].GridPos.W = 24 },
		"has no ID or no title":                func(d *dashboard) { d.Panels[2].Title = "" },
		"has no description or no unit":        func(d *dashboard) { d.Panels[2].FieldConfig.Defaults.Unit = "" },
		"does not take the chosen data source": func(d *dashboard) { d.Panels[2].Datasource.UID = "mine" },
		`there is no variable "datasource"`:    func(d *dashboard) { d.Templating.List = d.Templating.List[1:] },
		"shows nothing":                        func(d *dashboard) { d.Panels[2].Targets = nil },
		`uses an unknown variable "cluster"`:   func(d *dashboard) { d.Panels[2].Targets[0].Expr = `up{cluster="$cluster"}` },
		`is not narrowed to pod=~"$pod"`:       func(d *dashboard) { d.Panels[2].Targets[0].Expr = "up" },
		"has no uid":                           func(d *dashboard) { d.UID = "" },
	} {
		text, err := os.ReadFile("../../deploy/helm/faroe-sidecar/files/dashboard.json")
		if err != nil {
			t.Fatal(err)
		}
		var spoilt dashboard
		if err := json.Unmarshal(text, &spoilt); err != nil {
			t.Fatal(err)
		}
		spoil(&spoilt)
		found := strings.Join(spoilt.complaints(), "\n")
		if !strings.Contains(found, complaint) {
			t.Errorf("found %q, not %q", found, complaint)
		}
	}
}
