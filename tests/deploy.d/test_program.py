"""What manifests say to the program is what the program understands: each container's options go
through the real `faroe-sidecar check`, and one is started, probed, called by the command of
`helm test`, and drained."""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from manifests import (
    NEWEST, REPOSITORY, containers, documents, environment, of_kind, rendered, run, sidecars,
)

PROGRAM = REPOSITORY / "target/debug/faroe-sidecar"
CERTIFICATES = """
[req]
distinguished_name = name
prompt = no
[name]
CN = authority
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
subjectAltName = DNS:localhost
extendedKeyUsage = serverAuth
[client]
subjectAltName = DNS:faroe.internal
extendedKeyUsage = clientAuth
[stranger]
subjectAltName = DNS:stranger.internal
extendedKeyUsage = clientAuth
[ca]
default_ca = lists
[lists]
database = index.txt
default_md = sha256
default_crl_days = 2
crlnumber = crlnumber
crl_extensions = list
[list]
authorityKeyIdentifier = keyid
"""


class Files:
    """The folders that containers mount, with files as Secrets would have them."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "ca.cnf").write_text(CERTIFICATES)
        (folder / "index.txt").touch()
        (folder / "crlnumber").write_text("01\n")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self.openssl("req", "-x509", *key, "-config", "ca.cnf", "-extensions", "authority",
                     "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
        for name in ("server", "client", "stranger"):
            self.openssl("req", *key, "-config", "ca.cnf", "-subj", f"/CN={name}",
                         "-keyout", f"{name}.key", "-out", f"{name}.csr")
            self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                         "-CAcreateserial", "-days", "2", "-extfile", "ca.cnf",
                         "-extensions", name, "-out", f"{name}.crt")
        self.openssl("ca", "-gencrl", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key",
                     "-out", "lists.pem")
        for mount, name in (("tls", "server"), ("store-tls", "client"), ("client", "client"),
                            ("stranger", "stranger")):
            (folder / mount).mkdir()
            for to, source in (("tls.crt", f"{name}.crt"), ("tls.key", f"{name}.key"),
                               ("ca.crt", "ca.crt")):
                (folder / mount / to).write_bytes((folder / source).read_bytes())
        (folder / "client-ca").mkdir()
        (folder / "client-ca/authorities.pem").write_bytes((folder / "ca.crt").read_bytes())
        (folder / "client-ca/lists.pem").write_bytes((folder / "lists.pem").read_bytes())
        (folder / "store").mkdir()

    def openssl(self, *arguments):
        run("openssl", *arguments, cwd=self.folder)

    def put(self, text):
        """A path of a container, where it is on this machine."""
        return text.replace("/etc/faroe-sidecar/", f"{self.folder}/")


class Program(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.files = Files(pathlib.Path(cls.temporary.name))
        cls.addClassCleanup(cls.temporary.cleanup)

    def command(self, container, text):
        """Arguments and environment of a container, with files of this machine."""
        arguments = [self.files.put(argument) for argument in container["args"]]
        variables = {name: self.files.put(value)
                     for name, value in environment(container, text).items()}
        return arguments, {"PATH": os.environ["PATH"], **variables}

    def set_store(self, url):
        (self.files.folder / "store/url").write_text(url)

    def test_every_container_has_options_that_the_program_accepts(self):
        self.set_store("postgres://faroe:secret@127.0.0.1:1/faroe")
        checked = 0
        for name, container, _, text in sidecars():
            (serve, *options), variables = self.command(container, text)
            self.assertEqual(serve, "serve")
            with self.subTest(name):
                self.assertEqual(
                    run(PROGRAM, "check", *options, env=variables), "the configuration is right\n")
            checked += 1
        print(f"\n  {checked} containers")

    def test_a_wrong_option_is_found(self):
        self.set_store("postgres://faroe:secret@127.0.0.1:1/faroe")
        name, container, _, text = next(sidecars())
        (_, *options), variables = self.command(container, text)
        with self.assertRaisesRegex(AssertionError, "--drain-dely"):
            run(PROGRAM, "check", *options, "--drain-dely=5s", env=variables)

    def test_every_option_is_in_the_readme(self):
        readme = (REPOSITORY / "README.md").read_text()
        options = {argument.partition("=")[0] for _, container, _, _ in sidecars()
                   for argument in container["args"][1:]}
        options |= {"--" + name.removeprefix("FAROE_SIDECAR_").lower().replace("_", "-")
                    for _, container, _, text in sidecars()
                    for name in environment(container, text) if name.startswith("FAROE_SIDECAR_")}
        for option in options:
            self.assertIn(f"`{option}`", readme)
        print(f"\n  {len(options)} options")

    def test_the_migration_gets_as_far_as_the_database(self):
        # Nobody listens there: with a wrong option the exit code would be 2.
        self.set_store("postgres://faroe:secret@127.0.0.1:1/faroe")
        jobs = [(name, job) for (name, version), text in rendered().items() if version == NEWEST
                for job in of_kind(text, "Job")]
        self.assertTrue(jobs)
        for name, job in jobs:
            (container,) = containers(job)
            arguments, variables = self.command(container, "")
            done = subprocess.run([PROGRAM, *arguments], env=variables, capture_output=True, text=True)
            with self.subTest(name):
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertNotIn("secret", done.stderr)

    def test_ports_agree(self):
        for name, container, _, text in sidecars():
            arguments, variables = self.command(container, text)
            listen = [a.partition("=")[2] for a in arguments if a.startswith("--listen=")]
            https = port(listen[0]) if listen else 8443
            admin = port(variables["FAROE_SIDECAR_ADMIN_LISTEN"])
            with self.subTest(name):
                self.assertEqual({p["name"]: p["containerPort"] for p in container["ports"]},
                                 {"https": https, "admin": admin})
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    self.assertEqual(container[probe]["httpGet"]["port"], admin)
                (service,) = of_kind(text, "Service")
                self.assertEqual([p["targetPort"] for p in service["spec"]["ports"]], [https])
                for policy in of_kind(text, "NetworkPolicy"):
                    if policy["metadata"]["name"] == service["metadata"]["name"]:
                        (endpoint,) = policy["spec"]["ingress"][0]["ports"]
                        self.assertEqual(endpoint["port"], https)

    def test_a_container_starts_is_probed_passes_helm_test_and_drains(self):
        text = rendered()["host chart, native", NEWEST]
        (container,) = [c for (name, c, _, _) in sidecars() if name == "host chart, native"]
        (pod,) = of_kind(text, "Pod")
        arguments, variables = self.command(container, text)
        # Every port is a free one, and the bundled store stands in for that of the pod.
        store = f"sqlite://{self.files.folder}/users.sqlite"
        arguments = [re.sub("^--listen=.*", "--listen=127.0.0.1:0", a) for a in arguments]
        arguments = [re.sub("^--store=.*", f"--store={store}", a) for a in arguments]
        variables["FAROE_SIDECAR_ADMIN_LISTEN"] = "127.0.0.1:0"
        served = subprocess.Popen([PROGRAM, *arguments], env=variables, text=True,
                                  stderr=subprocess.PIPE)
        self.addCleanup(served.stderr.close)
        self.addCleanup(served.wait)
        self.addCleanup(served.kill)
        https, admin = bound(served)

        def probe(name):
            path = container[name]["httpGet"]["path"]
            try:
                with urllib.request.urlopen(f"http://{admin}{path}", timeout=5) as answer:
                    return answer.status
            except urllib.error.HTTPError as error:
                error.close()
                return error.code

        self.assertEqual(probe("startupProbe"), 200)
        self.assertEqual(probe("livenessProbe"), 200)
        end = time.monotonic() + 30
        while probe("readinessProbe") != 200:
            self.assertLess(time.monotonic(), end, "it has to become ready")
            time.sleep(0.05)

        url = f"https://localhost:{port(https)}/"
        self.assertEqual(self.helm_test(pod, url, "client").returncode, 0)
        refused = self.helm_test(pod, url, "stranger")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn('"status":403', refused.stdout.replace(" ", ""))
        exists = self.helm_test(pod, url, "client", ACTION=json.dumps({
            "action": "create_user",
            "arguments": {"email_address": "a@example.com", "password_hash": "aGFzaA==",
                          "password_hash_algorithm_id": "argon2id", "password_salt": "c2FsdA=="},
        }))
        self.assertNotEqual(exists.returncode, 0, "another answer than user_not_found is no success")

        program, *words = container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual(program, PROGRAM.name)
        run(PROGRAM, *words, env={**variables, "FAROE_SIDECAR_ADMIN_LISTEN": admin})
        self.assertEqual(probe("readinessProbe"), 503)
        self.assertEqual(probe("livenessProbe"), 200)
        self.assertEqual(self.helm_test(pod, url, "client").returncode, 0, "it still serves")
        served.terminate()
        self.assertEqual(served.wait(timeout=30), 0)

    def helm_test(self, pod, url, client, **variables):
        """The command of `helm test`, with the certificate of a client."""
        (container,) = pod["spec"]["containers"]
        shell, option, script = container["command"]
        script = script.replace("/tls/", f"{self.files.folder}/{client}/")
        # A server on this machine is there at once.
        self.assertIn("--retry 10", script)
        script = script.replace("--retry 10", "--retry 0")
        given = {v["name"]: v["value"] for v in container["env"]}
        return subprocess.run(
            [shell, option, script], capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], **given, "URL": url, **variables},
        )


def port(address):
    return int(address.rsplit(":", 1)[1])


def bound(served):
    """The addresses of a sidecar that was started: of its endpoint, and of its admin listener."""
    for line in served.stderr:
        said = json.loads(line)
        said = said.get("fields", said)
        if said.get("message") == "listening":
            return said["endpoint"], said["admin"]
    raise AssertionError("the sidecar ended before it served")
