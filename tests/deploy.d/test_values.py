"""Values: every one is explained and known, and none of them can bring a secret into a manifest."""

import json
import re
import subprocess
import unittest

import yaml
from manifests import CHART, REPOSITORY, documents, rendered

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def resolved(schema):
    reference = schema.get("$ref")
    return SCHEMA["$defs"][reference.rsplit("/", 1)[1]] if reference else schema


def named(schema, path=()):
    """Each value that a schema names, by its path."""
    for name, value in resolved(schema).get("properties", {}).items():
        yield (*path, name)
        yield from named(value, (*path, name))


class Values(unittest.TestCase):
    def test_values_and_schema_name_the_same(self):
        def given(values, path=()):
            for name, value in values.items():
                yield (*path, name)
                if isinstance(value, dict) and (*path, name) in inner:
                    yield from given(value, (*path, name))

        known = {path for path in named(SCHEMA) if path != ("global",)}
        inner = {path[:-1] for path in known}
        self.assertEqual(known, set(given(yaml.safe_load((CHART / "values.yaml").read_text()))))
        print(f"\n  {len(known)} values")

    def test_every_value_has_a_comment_above_it(self):
        known, path, before, seen = set(named(SCHEMA)), [], "", set()
        for line in (CHART / "values.yaml").read_text().splitlines():
            key = re.match(r"( *)([A-Za-z]+):", line)
            if key:
                path = [*path[: len(key[1]) // 2], key[2]]
                if tuple(path) in known:
                    seen.add(tuple(path))
                    self.assertRegex(before, r"^ *# .", ".".join(path))
            before = line
        self.assertEqual(seen, known - {("global",)})

    def test_nothing_that_is_not_named_is_accepted(self):
        def objects(schema, path):
            schema = resolved(schema)
            if "properties" in schema:
                self.assertIs(schema.get("additionalProperties"), False, path)
                for name, value in schema["properties"].items():
                    objects(value, f"{path}.{name}")

        objects(SCHEMA, "values")

    def test_the_chart_is_for_the_version_of_the_program(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        cargo = (REPOSITORY / "Cargo.toml").read_text()
        version = re.search(r'^version = "(.*)"$', cargo, re.MULTILINE)[1]
        self.assertEqual(chart["appVersion"], version)
        components = (REPOSITORY / "deploy/kustomize").glob("*/deployment.yaml")
        images = [line for file in components for line in file.read_text().splitlines()
                  if line.strip().startswith("image:")]
        self.assertTrue(images)
        for image in images:
            self.assertTrue(image.endswith(f":{version}"), image)


class Secrets(unittest.TestCase):
    def test_no_manifest_has_one(self):
        for (name, version), text in rendered().items():
            self.assertNotIn("Secret", [d["kind"] for d in documents(text)], name)
            self.assertNotRegex(text, r"://[^/\s]*@", name)
            self.assertNotRegex(text, r"(?i)passw(or)?d[\"']?\s*[:=]|PRIVATE KEY", name)

    def test_a_password_in_a_wrong_place_is_refused_and_not_shown(self):
        url = "postgres://faroe:hunter2@database/faroe"
        places = [
            f"store.url={url}",
            f"store.urlSecret.name={url}",
            f"migration.urlSecret.name={url}",
            f"extraArgs[0]=--store={url}",
            f"extraArgs[0]={url}",
            "extraArgs[0]=--otlp-endpoint=https://faroe:hunter2@collector",
            f"extraEnv[0].name=FAROE_SIDECAR_STORE,extraEnv[0].value={url}",
        ]
        values = CHART / "ci/database-values.yaml"
        for place in places:
            done = subprocess.run(
                ["helm", "template", "users", CHART, "--kube-version", "1.37.0",
                 "--values", values, "--set", place],
                capture_output=True, text=True,
            )
            with self.subTest(place):
                self.assertNotEqual(done.returncode, 0)
                self.assertNotIn("hunter2", done.stdout + done.stderr)
                self.assertRegex(done.stderr, "store.url: |urlSecret.name: |extraArgs: |extraEnv: ")
        print(f"\n  {len(places)} places")
