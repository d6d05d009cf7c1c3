package promqltest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// dashboard is what of a dashboard of Grafana can be wrong without Grafana saying so.
type dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []target `json:"targets"`
}

type target struct {
	RefID        string     `json:"refId"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
	Datasource   datasource `json:"datasource"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// chosen are the panels' data source and what every metric of theirs is narrowed to.
var (
	chosenDatasource = datasource{"prometheus", "${datasource}"}
	chosenPods       = []string{`namespace=~"$namespace"`, `job=~"$job"`, `pod=~"$pod"`}
)

var variable = regexp.MustCompile(`\$\{?([a-z_]+)\}?`)

// expanded is an expression with all of what its variables choose from.
func expanded(expression, rateInterval string) string {
	return variable.ReplaceAllStringFunc(expression, func(name string) string {
		switch strings.Trim(name, "${}") {
		case "__rate_interval":
			return rateInterval
		case "namespace", "job", "pod":
			return ".*"
		}
		return name
	})
}

// complaints says what of a dashboard does not hold together.
func (dashboard dashboard) complaints() []string {
	var found []string
	complain := func(format string, arguments ...any) {
		found = append(found, fmt.Sprintf(format, arguments...))
	}
	if dashboard.UID == "" || dashboard.Title == "" {
		complain("the dashboard has no uid or no title")
	}
	var variables []string
	for _, variable := range dashboard.Templating.List {
		variables = append(variables, variable.Name)
	}
	for _, needed := range []string{"datasource", "namespace", "job", "pod"} {
		if !slices.Contains(variables, needed) {
			complain("there is no variable %q", needed)
		}
	}
	for i, panel := range dashboard.Panels {
		name := fmt.Sprintf("panel %d (%s)", panel.ID, panel.Title)
		if panel.ID < 1 || panel.Title == "" {
			complain("%s has no ID or no title", name)
		}
		place := panel.GridPos
		if place.X < 0 || place.Y < 0 || place.W < 1 || place.H < 1 || place.X+place.W > 24 {
			complain("%s is not within the 24 columns", name)
		}
		for _, other := range dashboard.Panels[:i] {
			if other.ID == panel.ID {
				complain("%s has the ID of %q", name, other.Title)
			}
			taken := other.GridPos
			if place.X < taken.X+taken.W && taken.X < place.X+place.W &&
				place.Y < taken.Y+taken.H && taken.Y < place.Y+place.H {
				complain("%s lies on %q", name, other.Title)
			}
		}
		if panel.Type == "row" {
			continue
		}
		if panel.Description == "" || panel.FieldConfig.Defaults.Unit == "" {
			complain("%s has no description or no unit", name)
		}
		if panel.Datasource != chosenDatasource {
			complain("%s does not take the chosen data source", name)
		}
		if len(panel.Targets) == 0 {
			complain("%s shows nothing", name)
		}
		for _, target := range panel.Targets {
			if target.Datasource != chosenDatasource {
				complain("%s does not take the chosen data source in %s", name, target.RefID)
			}
			for _, used := range variable.FindAllStringSubmatch(target.Expr, -1) {
				if used[1] != "__rate_interval" && !slices.Contains(variables, used[1]) {
					complain("%s uses an unknown variable %q", name, used[1])
				}
			}
			parsed, err := parse(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"))
			if err != nil {
				complain("%s: %v", name, err)
				continue
			}
			for _, selector := range selectors(parsed) {
				for _, choice := range chosenPods {
					if !strings.Contains(selector.String(), choice) {
						complain("%s: %s is not narrowed to %s", name, selector, choice)
					}
				}
			}
		}
	}
	return found
}
