package promqltest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// targetLabels are those that Prometheus adds, from the PodMonitor; no metric has them of itself.
var targetLabels = []string{"namespace", "job", "pod", "container", "endpoint", "instance"}

// parse reads an expression as Prometheus does.
func parse(expression string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(expression)
}

// selectors are the metrics that an expression looks at, with what it asks of their labels.
func selectors(expression parser.Node) []*parser.VectorSelector {
	var found []*parser.VectorSelector
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found = append(found, selector)
		}
		return nil
	})
	return found
}

// complaints says what an expression names that is not exposed: metrics, labels, and values of
// labels, also those of a regular expression that lists some.
func complaints(expression string, exposed exposition) []string {
	parsed, err := parse(expression)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	complain := func(format string, arguments ...any) {
		found = append(found, fmt.Sprintf(format, arguments...))
	}
	for _, selector := range selectors(parsed) {
		metric, isExposed := exposed[selector.Name]
		if !isExposed {
			complain("no metric %q is exposed", selector.Name)
			continue
		}
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name == labels.MetricName || slices.Contains(targetLabels, matcher.Name) {
				continue
			}
			values, isLabel := metric[matcher.Name]
			if !isLabel {
				complain("%s has no label %q", selector.Name, matcher.Name)
				continue
			}
			for _, value := range valuesOf(matcher) {
				if !slices.Contains(values, value) {
					complain("%s is not exposed with %s=%q", selector.Name, matcher.Name, value)
				}
			}
		}
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		var names []string
		switch node := node.(type) {
		case *parser.AggregateExpr:
			names = node.Grouping
		case *parser.BinaryExpr:
			if node.VectorMatching != nil {
				names = slices.Concat(node.VectorMatching.MatchingLabels, node.VectorMatching.Include)
			}
		}
		for _, name := range names {
			isLabel := slices.ContainsFunc(selectors(node), func(selector *parser.VectorSelector) bool {
				_, isLabel := exposed[selector.Name][name]
				return isLabel
			})
			if !isLabel && !slices.Contains(targetLabels, name) {
				complain("nothing in %s has a label %q", node, name)
			}
		}
		return nil
	})
	return found
}

// valuesOf a matcher: each of those that it lists.
func valuesOf(matcher *labels.Matcher) []string {
	if matcher.Type == labels.MatchRegexp || matcher.Type == labels.MatchNotRegexp {
		return strings.Split(matcher.Value, "|")
	}
	return []string{matcher.Value}
}
