"""What is rendered is what the API server takes, in each version of Kubernetes that is promised."""

import unittest

import jsonschema
import kubernetes_validate
from manifests import (
    CHART, NATIVE_SIDECARS, NEWEST, OLDEST, VALUES, VERSIONS, documents, host_chart, of_kind,
    rendered, run,
)

text = {"type": "string", "minLength": 1}
texts = {"type": "array", "items": text, "minItems": 1}


def closed(required, **properties):
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


issuer_reference = closed(["name"], name=text, kind=text, group=text)
# kubernetes-validate has no schemas of custom resources. These are the fields that we use, by the
# reference of cert-manager 1.x and of the Prometheus operator.
CUSTOM = {
    ("cert-manager.io/v1", "Issuer"): {
        "oneOf": [closed(["selfSigned"], selfSigned=closed([])),
                  closed(["ca"], ca=closed(["secretName"], secretName=text))],
    },
    ("cert-manager.io/v1", "Certificate"): closed(
        ["secretName", "issuerRef"],
        secretName=text,
        issuerRef=issuer_reference,
        commonName={"type": "string", "maxLength": 64},
        dnsNames=texts,
        duration=text,
        renewBefore=text,
        isCA={"type": "boolean"},
        usages={"type": "array",
                "items": {"enum": ["digital signature", "server auth", "client auth"]}},
        privateKey=closed(
            ["algorithm", "size", "rotationPolicy"],
            algorithm={"enum": ["ECDSA"]},
            size={"enum": [256]},
            rotationPolicy={"enum": ["Never", "Always"]},
        ),
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "type": "object",
        "required": ["selector", "podMetricsEndpoints"],
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "type": "object",
        "required": ["groups"],
        "properties": {"groups": {"type": "array", "minItems": 1,
                                  "items": {"type": "object", "required": ["name", "rules"]}}},
    },
}


def fault(document, version):
    """What is wrong with a document; none if it is right."""
    custom = CUSTOM.get((document["apiVersion"], document["kind"]))
    try:
        if custom:
            jsonschema.validate(document["spec"], custom)
        else:
            kubernetes_validate.validate(document, version, strict=True)
    except jsonschema.ValidationError as error:
        return f"{list(error.path)}: {error.message}"
    except kubernetes_validate.ValidationError as error:
        return f"{list(error.path)}: {error.message}"
    return None


class Schemas(unittest.TestCase):
    def test_every_manifest_keeps_the_schema_of_each_version(self):
        judged = {True: 0, False: 0}
        for (name, version), manifests in rendered().items():
            for document in documents(manifests):
                what = f"{name}, {version}: {document['kind']} {document['metadata']['name']}"
                with self.subTest(what):
                    self.assertIsNone(fault(document, version))
                judged[(document["apiVersion"], document["kind"]) in CUSTOM] += 1
        print(f"\n  {len(rendered())} renderings, {judged[False]} documents by the schemas of "
              f"Kubernetes {', '.join(VERSIONS)}; {judged[True]} custom resources by their fields")

    def test_the_schemas_tell_a_native_sidecar_from_what_older_clusters_know(self):
        (deployment,) = of_kind(rendered()["kustomization, native", NATIVE_SIDECARS], "Deployment")
        self.assertIsNone(fault(deployment, NATIVE_SIDECARS))
        self.assertIn("restartPolicy", fault(deployment, OLDEST))

    def test_a_misspelt_field_is_found(self):
        for kind, field, wrong in (("Deployment", "strategy", "stategy"),
                                   ("Certificate", "renewBefore", "renewbefore")):
            document = of_kind(rendered()["cert-manager", NEWEST], kind)[-1]
            document["spec"][wrong] = document["spec"].pop(field)
            self.assertIsNotNone(fault(document, NEWEST), kind)

    def test_objects_have_names_of_their_own(self):
        for (name, version), manifests in rendered().items():
            keys = [(d["kind"], d["metadata"]["name"]) for d in documents(manifests)]
            self.assertEqual(len(keys), len(set(keys)), f"{name}, {version}")

    def test_helm_finds_nothing_to_say_about_the_chart(self):
        self.assertGreaterEqual(len(VALUES), 8)
        for values in VALUES:
            for version in VERSIONS:
                run("helm", "lint", "--strict", CHART, "--values", values,
                    "--kube-version", f"{version}.0")
        run("helm", "lint", "--strict", "--with-subcharts", host_chart()[0],
            "--kube-version", f"{NEWEST}.0")
        print(f"\n  {len(VALUES)} sets of values, and the chart as a dependency of another")
