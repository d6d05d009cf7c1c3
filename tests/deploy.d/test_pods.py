"""Pods are locked down, keep the good manners that a linter knows, and end in the right order."""

import subprocess
import tempfile
import unittest

from manifests import (
    HERE, NEWEST, OLDEST, containers, documents, environment, helm_template, host_chart, of_kind,
    pod_spec, rendered, sidecars,
)

# What kube-score says and we do otherwise, and why.
EXCEPTIONS = {
    "CPU limit is not set":
        "a limit on processor time would hold TLS handshakes up",
    "Ephemeral Storage limit is not set":
        "the root is read-only and nothing is written but the log, which the kubelet rotates",
    "Ephemeral Storage request is not set":
        "the same",
    "ImagePullPolicy is not set to Always":
        "a version is never built twice, and image.digest pins it for those who do not trust a tag",
    "The pod does not have a matching egress NetworkPolicy":
        "only the installer knows where the database is: networkPolicy.egress",
    "Deployment does not have a host podAntiAffinity set":
        "topologySpreadConstraints do it without leaving pods unscheduled",
}
# Sets of values that are not for a cluster that matters, or have no pods: the pods of sidecars are
# linted where another chart has them.
NOT_LINTED = {"single", "sidecar-localhost", "sidecar-socket", "sidecar-spiffe"}


def having_pods():
    """The manifests of each rendering that has pods."""
    for (name, version), text in rendered().items():
        if any(pod_spec(document) for document in documents(text)):
            yield name, version, text


class Pods(unittest.TestCase):
    def test_pods_keep_the_restricted_standard(self):
        judged = []
        for name, version, text in having_pods():
            done = subprocess.run(["podsecurity"], input=text, capture_output=True, text=True)
            with self.subTest(f"{name}, {version}"):
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            judged.append(int(done.stdout.splitlines()[-1].split()[0]))
        print(f"\n  {sum(judged)} pods of {len(judged)} renderings")

    def test_the_judge_refuses_a_pod_that_may_become_root(self):
        text = rendered()["database", NEWEST].replace("runAsNonRoot: true", "runAsNonRoot: false")
        done = subprocess.run(["podsecurity"], input=text, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("runAsNonRoot", done.stdout)

    def test_a_linter_finds_nothing_but_what_we_mean(self):
        seen, linted = set(), 0
        for name, version, text in having_pods():
            if name in NOT_LINTED:
                continue
            linted += 1
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(text)
                file.flush()
                done = subprocess.run(
                    ["kube-score", "score", "--output-format", "ci",
                     "--kubernetes-version", f"v{version}", file.name],
                    capture_output=True, text=True,
                )
            lines = done.stdout.splitlines()
            self.assertGreater(len(lines), 10, done.stderr)
            for line in lines:
                if line.startswith(("[OK]", "[SKIPPED]")):
                    continue
                known = [said for said in EXCEPTIONS if line.endswith(said)]
                seen.update(known)
                with self.subTest(f"{name}, {version}"):
                    self.assertTrue(known, line)
        self.assertEqual(seen, set(EXCEPTIONS), "an exception that nothing needs any more")
        print(f"\n  {linted} renderings, {len(EXCEPTIONS)} exceptions")

    def test_no_container_of_ours_mounts_a_file_that_would_not_be_renewed(self):
        for name, version, text in having_pods():
            for document in documents(text):
                for container in containers(document):
                    for mount in container.get("volumeMounts", []):
                        self.assertNotIn("subPath", mount, name)

    def test_no_service_account_token_is_mounted(self):
        for name, version, text in having_pods():
            for document in documents(text):
                if spec := pod_spec(document):
                    self.assertIs(spec["automountServiceAccountToken"], False, name)

    def test_labels_select_the_pods_that_serve_and_no_others(self):
        for name, version, text in having_pods():
            if not of_kind(text, "Deployment"):
                continue
            pods = []
            for document in documents(text):
                if document["kind"] in ("Deployment", "Job"):
                    pods.append((document["kind"], document["spec"]["template"]["metadata"]["labels"]))
                elif document["kind"] == "Pod":
                    pods.append(("Pod", document["metadata"]["labels"]))
            (service,) = of_kind(text, "Service")
            selector = service["spec"]["selector"].items()
            selected = [kind for kind, labels in pods if selector <= labels.items()]
            self.assertEqual(selected, ["Deployment"], f"{name}, {version}")


class Sidecars(unittest.TestCase):
    def test_the_native_one_is_the_plain_one_that_starts_first_and_ends_last(self):
        pairs = [("host chart, native", "host chart, plain"),
                 ("host chart, native, socket", "host chart, plain, socket"),
                 ("kustomization, native", "kustomization, plain")]
        for native, plain in pairs:
            (native,) = of_kind(rendered()[native, NEWEST], "Deployment")
            (plain,) = of_kind(rendered()[plain, NEWEST], "Deployment")
            native, plain = pod_spec(native), pod_spec(plain)
            first, *others = native.pop("initContainers")
            self.assertEqual(first["name"], "faroe-sidecar")
            self.assertEqual(first.pop("restartPolicy"), "Always")
            (same,) = [c for c in plain["containers"] if c["name"] == "faroe-sidecar"]
            self.assertEqual(first, same)
            plain["containers"].remove(same)
            self.assertEqual(others, plain.pop("initContainers", []))
            self.assertEqual(native, plain)

    def test_the_end_fits_into_the_grace_period(self):
        for name, container, document, text in sidecars():
            spec = pod_spec(document)
            delay, timeout = (int(option(container, text, key).removesuffix("s"))
                              for key in ("drain-delay", "drain-timeout"))
            waits = 0
            for store in spec["containers"]:
                if store["name"] != "faroe-sidecar":
                    waits = store_wait(store)
                    self.assertGreater(waits, delay, f"{name}: the store is needed for the delay")
            grace = spec.get("terminationGracePeriodSeconds", 30)
            with self.subTest(name):
                self.assertGreater(delay, 0)
                self.assertGreater(timeout, delay)
                self.assertGreater(grace, waits + timeout)

    def test_the_store_waits_by_what_its_cluster_has(self):
        for version, action in ((OLDEST, "exec"), (NEWEST, "sleep")):
            (deployment,) = of_kind(rendered()["host chart, plain", version], "Deployment")
            (store,) = [c for c in containers(deployment) if c["name"] == "users"]
            self.assertEqual(list(store["lifecycle"]["preStop"]), [action])
            self.assertEqual(store_wait(store), 10)

    def test_a_native_one_is_refused_where_it_would_block_the_pod(self):
        with self.assertRaisesRegex(AssertionError, "native sidecars need Kubernetes 1.29"):
            helm_template(host_chart()[0], "1.28")

    def test_the_components_ask_for_no_more_than_two_lines(self):
        for name, component in (("native", "sidecar"), ("plain", "sidecar-plain")):
            text = (HERE / "kustomize" / name / "kustomization.yaml").read_text()
            added = text.split("resources:\n  - ../store\n")[1]
            self.assertEqual(added, f"components:\n  - ../../../../deploy/kustomize/{component}\n")


def option(container, text, name):
    """The value of an option of the program, from an argument or its environment variable."""
    for argument in container["args"]:
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
    return environment(container, text)["FAROE_SIDECAR_" + name.upper().replace("-", "_")]


def store_wait(store):
    hook = store["lifecycle"]["preStop"]
    return int(hook["sleep"]["seconds"] if "sleep" in hook else hook["exec"]["command"][1])


