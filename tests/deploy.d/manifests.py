"""Everything that is rendered from deploy/: by the chart with each of its sets of values, by a chart
that has it as a dependency, and by kustomizations that use the components."""

import functools
import pathlib
import shutil
import subprocess
import tempfile

import yaml

REPOSITORY = pathlib.Path(__file__).parents[2]
HERE = REPOSITORY / "tests/deploy.d"
CHART = REPOSITORY / "deploy/helm/faroe-sidecar"
VALUES = sorted(CHART.glob("ci/*-values.yaml"))

OLDEST = "1.27"
NATIVE_SIDECARS = "1.29"
NEWEST = "1.37"
VERSIONS = [OLDEST, NATIVE_SIDECARS, NEWEST]

SOCKET = "unix:///run/faroe-userstore/store.sock"
# How the other chart includes the sidecar: settings, and the version of Kubernetes that it needs.
HOST_CHARTS = {
    "host chart, native": ([], NATIVE_SIDECARS),
    "host chart, native, socket": ([f"faroe-sidecar.store.url={SOCKET}"], NATIVE_SIDECARS),
    "host chart, plain": (["container=plain"], OLDEST),
    "host chart, plain, socket": (
        ["container=plain", f"faroe-sidecar.store.url={SOCKET}"],
        OLDEST,
    ),
}
KUSTOMIZATIONS = {"native": NATIVE_SIDECARS, "socket": NATIVE_SIDECARS, "plain": OLDEST}


def run(*command, **options):
    """Runs a command that has to work, and gives what it printed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def helm_template(chart, version, *arguments):
    return run(
        "helm", "template", "users", chart, "--namespace", "auth",
        "--kube-version", f"{version}.0", *arguments,
    )


@functools.cache
def host_chart():
    """The chart of tests/deploy.d/host-chart with ours as its dependency, as `helm dependency` would
    lay it there."""
    folder = tempfile.TemporaryDirectory()
    chart = pathlib.Path(folder.name) / "users"
    shutil.copytree(HERE / "host-chart", chart)
    run("helm", "package", CHART, "--destination", chart / "charts")
    return chart, folder


@functools.cache
def rendered():
    """The text of each set of manifests, by what it is from and the version of Kubernetes."""
    manifests = {}
    for values in VALUES:
        name = values.name.removesuffix("-values.yaml")
        for version in VERSIONS:
            manifests[name, version] = helm_template(CHART, version, "--values", values)
    for name, (settings, since) in HOST_CHARTS.items():
        flags = [flag for setting in settings for flag in ("--set", setting)]
        for version in VERSIONS[VERSIONS.index(since):]:
            manifests[name, version] = helm_template(host_chart()[0], version, *flags)
    for name, since in KUSTOMIZATIONS.items():
        text = run("kustomize", "build", HERE / "kustomize" / name)
        for version in VERSIONS[VERSIONS.index(since):]:
            manifests[f"kustomization, {name}", version] = text
    return manifests


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(text, kind):
    return [document for document in documents(text) if document["kind"] == kind]


def pod_spec(document):
    """The pod that a document describes; none if it describes something else."""
    if document["kind"] == "Pod":
        return document["spec"]
    return document.get("spec", {}).get("template", {}).get("spec")


def containers(document):
    spec = pod_spec(document) or {}
    return spec.get("initContainers", []) + spec.get("containers", [])


def sidecars():
    """Each container that serves, once: what it is from, its container, and all its manifests."""
    newest = {name: text for (name, version), text in rendered().items() if version == NEWEST}
    for name, text in newest.items():
        for document in documents(text):
            for container in containers(document):
                if container["name"] == "faroe-sidecar":
                    yield name, container, document, text


def environment(container, text):
    """The environment variables of a container, those of ConfigMaps included."""
    variables = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        (config,) = [c for c in of_kind(text, "ConfigMap") if c["metadata"]["name"] == name]
        variables.update(config["data"])
    variables.update({v["name"]: v["value"] for v in container.get("env", [])})
    return variables
