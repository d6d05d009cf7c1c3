//! What rendered manifests say to the kubelet about a pod.
//!
//! A probe, hook, variable or volume of a kind that the model does not play is an error, never passed
//! over.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use crate::harness::{
    database::in_path,
    process::{PATIENCE, output_of},
};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    #[serde(default)]
    pub init_containers: Vec<Container>,
    pub containers: Vec<Container>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    #[serde(default = "thirty")]
    termination_grace_period_seconds: u64,
}

/// What of a container makes no difference here.
const LEFT_OUT: [&str; 4] = ["image", "imagePullPolicy", "resources", "securityContext"];

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    pub name: String,
    restart_policy: Option<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<Variable>,
    #[serde(default)]
    env_from: Vec<VariablesFrom>,
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
    #[serde(default)]
    pub volume_mounts: Vec<VolumeMount>,
    pub startup_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    pub readiness_probe: Option<Probe>,
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VariablesFrom {
    config_map_ref: Reference,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    pub container_port: u16,
}

/// No `subPath`: the kubelet would not bring such a file up to date.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeMount {
    pub name: String,
    pub mount_path: String,
    #[serde(default, rename = "readOnly")]
    _read_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Volume {
    pub name: String,
    #[serde(flatten)]
    pub source: VolumeSource,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    EmptyDir {},
    #[serde(rename_all = "camelCase")]
    Secret {
        secret_name: String,
    },
}

/// The defaults are those of Kubernetes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    pub http_get: HttpGet,
    #[serde(default)]
    initial_delay_seconds: u64,
    #[serde(default = "ten")]
    period_seconds: u64,
    #[serde(default = "one")]
    timeout_seconds: u64,
    #[serde(default = "one")]
    pub success_threshold: u64,
    #[serde(default = "three")]
    pub failure_threshold: u64,
}

fn one() -> u64 {
    1
}

fn three() -> u64 {
    3
}

fn ten() -> u64 {
    10
}

fn thirty() -> u64 {
    30
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGet {
    pub path: String,
    pub port: u16,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lifecycle {
    pub pre_stop: Option<Hook>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Hook {
    Exec { command: Vec<String> },
    Sleep { seconds: u64 },
}

impl PodSpec {
    /// That of the one Deployment that Kustomize makes of a folder.
    pub fn of_kustomization(folder: &Path) -> Self {
        Self::rendered("kustomize", ["build".as_ref(), folder.as_os_str()])
    }

    /// That of the one Deployment of a chart, with these options of Helm.
    pub fn of_chart(chart: &Path, options: &[&str]) -> Self {
        let command = ["template".as_ref(), "release".as_ref(), chart.as_os_str()];
        Self::rendered("helm", command.into_iter().chain(options.iter().map(OsStr::new)))
    }

    /// The same of a chart that has the one of this repository in it.
    pub fn of_including_chart(chart: &Path, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in chart.read_dir().unwrap() {
            let entry = entry.unwrap();
            symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let charts = folder.path().join("charts");
        std::fs::create_dir(&charts).unwrap();
        symlink(repository("deploy/helm/faroe-sidecar"), charts.join("faroe-sidecar")).unwrap();
        Self::of_chart(folder.path(), options)
    }

    fn rendered<'a>(tool: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let program = in_path(tool).unwrap_or_else(|| {
            panic!("{tool} is missing: tests/deploy builds it, into target/tools/bin")
        });
        let mut command = Command::new(program);
        command.args(arguments);
        let output = output_of(command, "", PATIENCE);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "{tool}: {}", text(output.stderr));
        Self::of_objects(&text(output.stdout))
    }

    fn of_objects(yaml: &str) -> Self {
        let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
        let of_kind = |kind: &str| -> Vec<&Value> {
            objects.iter().filter(|object| object["kind"] == kind).collect()
        };
        let deployments = of_kind("Deployment");
        let [deployment] = deployments[..] else { panic!("not one Deployment in {yaml}") };
        let mut pod = deployment["spec"]["template"]["spec"].clone();
        for list in ["initContainers", "containers"] {
            let containers = pod.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                container.as_object_mut().unwrap().retain(|key, _| !LEFT_OUT.contains(&&**key));
            }
        }
        let mut pod: Self = serde_json::from_value(pod).unwrap();
        let config: BTreeMap<&str, BTreeMap<String, String>> = of_kind("ConfigMap")
            .into_iter()
            .map(|map| {
                let name = map["metadata"]["name"].as_str().unwrap();
                (name, serde_json::from_value(map["data"].clone()).unwrap())
            })
            .collect();
        for container in pod.init_containers.iter_mut().chain(&mut pod.containers) {
            for VariablesFrom { config_map_ref } in &container.env_from {
                let values = config[&*config_map_ref.name].clone().into_iter();
                let variables = values.map(|(name, value)| Variable { name, value });
                // What a container has of its own comes later, and so goes before.
                container.env.splice(0..0, variables);
            }
        }
        pod
    }

    pub fn termination_grace_period(&self) -> Duration {
        Duration::from_secs(self.termination_grace_period_seconds)
    }

    /// A container, of whichever sort.
    pub fn container(&mut self, name: &str) -> &mut Container {
        let mut all = self.init_containers.iter_mut().chain(&mut self.containers);
        all.find(|container| container.name == name)
            .unwrap_or_else(|| panic!("no container {name}"))
    }
}

/// A path of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Container {
    /// Whether an init container is one that goes on running beside the pod's own.
    pub fn is_restarted_always(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

impl Probe {
    pub fn initial_delay(&self) -> Duration {
        Duration::from_secs(self.initial_delay_seconds)
    }

    pub fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds)
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}
