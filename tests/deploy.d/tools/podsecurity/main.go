// podsecurity holds the pods of manifests to the restricted Pod Security Standard, by the code that
// the API server judges them with. It reads YAML documents from standard input, and prints each pod
// with what is wrong with it.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "podsecurity:", err)
		os.Exit(1)
	}
}

func run() error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	documents := kyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	pods, refused := 0, 0
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, meta, spec, err := pod(document)
		if err != nil {
			return err
		}
		if spec == nil {
			continue
		}
		pods++
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, meta, spec))
		if !result.Allowed {
			refused++
			fmt.Printf("%s: %s\n", name, result.ForbiddenDetail())
		}
	}
	fmt.Printf("%d pods, %d refused by the restricted standard\n", pods, refused)
	if pods == 0 || refused > 0 {
		return errors.New("there has to be a pod, and none may be refused")
	}
	return nil
}

// pod finds the pod that a document describes; none if it describes something else.
func pod(document []byte) (string, *metav1.ObjectMeta, *corev1.PodSpec, error) {
	var kind metav1.PartialObjectMetadata
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return "", nil, nil, err
	}
	name := kind.Kind + " " + kind.Name
	switch kind.Kind {
	case "Pod":
		var object corev1.Pod
		err := yaml.UnmarshalStrict(document, &object)
		return name, &object.ObjectMeta, &object.Spec, err
	case "Deployment":
		var object appsv1.Deployment
		err := yaml.UnmarshalStrict(document, &object)
		return name, &object.Spec.Template.ObjectMeta, &object.Spec.Template.Spec, err
	case "Job":
		var object batchv1.Job
		err := yaml.UnmarshalStrict(document, &object)
		return name, &object.Spec.Template.ObjectMeta, &object.Spec.Template.Spec, err
	case "StatefulSet", "DaemonSet", "CronJob", "ReplicaSet":
		return "", nil, nil, fmt.Errorf("%s: pods of this kind are not looked at yet", name)
	}
	return "", nil, nil, nil
}
