package promqltest

import (
	"io"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// exposition is what a /metrics has: the values of each label of each metric, by their names.
type exposition map[string]map[string][]string

// read adds what a /metrics says.
func (exposed exposition) read(text io.Reader) error {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return err
	}
	for name, family := range families {
		names := []string{name}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{name + "_bucket", name + "_sum", name + "_count"}
			exposed.add(names[0], "le", "+Inf")
		}
		for _, name := range names {
			for _, metric := range family.GetMetric() {
				exposed.add(name, "", "")
				for _, label := range metric.GetLabel() {
					exposed.add(name, label.GetName(), label.GetValue())
				}
			}
		}
	}
	return nil
}

// add notes a metric, and a value of one of its labels if that has a name.
func (exposed exposition) add(metric, label, value string) {
	if exposed[metric] == nil {
		exposed[metric] = map[string][]string{}
	}
	if label != "" && !slices.Contains(exposed[metric][label], value) {
		exposed[metric][label] = append(exposed[metric][label], value)
	}
}
