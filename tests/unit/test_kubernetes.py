"""The manifests of deploy/kubernetes, by the schema of Kubernetes and held against the code.

No cluster is needed, and none has run them: what they say is compared with the settings, the
command line, the images and what a role needs of time to end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from dicom_node.errors import ConfigurationError
from worker import VERSION, up
from worker.__main__ import app
from worker.settings import Settings, describe_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
BASE = FOLDER / "base"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text())
# The oldest that is still maintained somewhere, and one that is new.
VERSIONS = ("1.29", "1.33")
DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text()
# What is made by hand, as it is secret.
SECRETS = {"cxr-worker", "cxr-worker-files", "cxr-worker-web"}
URLS = {
    "CXR_DATABASE_URL": "postgresql+psycopg://cxr:secret@postgres.example.org/cxr",
    "CXR_BROKER_URL": "redis://redis.example.org:6379/0",
}


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every object of every file, with the file's name."""
    files = [BASE / name for name in KUSTOMIZATION["resources"]] + [FOLDER / "admin.yaml"]
    for file in files:
        for found in yaml.safe_load_all(file.read_text()):
            yield f"{file.name}:{found['kind']}:{found['metadata']['name']}", found


OBJECTS = dict(manifests())
DEPLOYMENTS = {o["metadata"]["name"]: o for o in OBJECTS.values() if o["kind"] == "Deployment"}
CONFIG = next(each["data"] for each in OBJECTS.values() if each["kind"] == "ConfigMap")
PODS: dict[str, dict[str, Any]] = {
    **{name: each["spec"]["template"]["spec"] for name, each in DEPLOYMENTS.items()},
    "migrate": OBJECTS["migrate.yaml:Job:migrate"]["spec"]["template"]["spec"],
    "admin": OBJECTS["admin.yaml:Pod:admin"]["spec"],
}


def container(name: str) -> dict[str, Any]:
    (found,) = PODS[name]["containers"]
    assert isinstance(found, dict)
    return found


def environment(name: str) -> dict[str, str]:
    """Give the environment of a pod, with the secret that is made by hand."""
    own = {each["name"]: each["value"] for each in container(name).get("env", ())}
    return {**CONFIG, **URLS, **own}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in OBJECTS.values() if o["kind"] == kind}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OBJECTS)
def test_manifest_is_valid_by_the_schema_of_kubernetes(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


def test_every_file_is_part_of_the_base() -> None:
    there = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == there


def test_all_roles_are_there() -> None:
    roles = up.roles(Settings.from_env({}))
    assert set(DEPLOYMENTS) == set(roles) - {"redis"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_arguments_are_those_of_the_role(name: str) -> None:
    expected = up.roles(Settings.from_env({}))[name]
    assert container(name)["args"][: len(expected)] == expected


@pytest.mark.parametrize("name", [*DEPLOYMENTS, "migrate"])
def test_arguments_are_some_that_the_command_line_knows(name: str) -> None:
    words = list(container(name)["args"])
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_parser(command.make_context(name, [], resilient_parsing=True)).parse_args(words)


def test_commands_that_are_told_of_exist() -> None:
    text = "".join(path.read_text() for path in FOLDER.rglob("*.yaml")) + DOCUMENT
    told = re.findall(r"cxr-worker ((?:user|db|archive) [a-z]+|doctor|requeue)", text)
    assert told
    for words in told:
        command = get_command(app)
        for word in words.split():
            command = command.commands[word]


@pytest.mark.parametrize("name", PODS)
def test_settings_exist_and_are_valid(name: str) -> None:
    env = environment(name)
    assert set(env) <= {key for key, _, _ in describe_settings()}
    settings = Settings.from_env(env)
    assert not settings.embedded_broker
    assert settings.archive_root == Path("/var/lib/cxr-worker/archive")
    assert settings.metrics_port == 9110


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_ports_are_those_of_the_settings(name: str) -> None:
    settings = Settings.from_env(environment(name))
    ports = {each["name"]: each["containerPort"] for each in container(name)["ports"]}
    expected = {
        "metrics": settings.metrics_port,
        **({"dicom": settings.port} if name == "node" else {}),
        **({"https": settings.web_port} if name == "web" else {}),
    }
    assert ports == expected


def test_a_service_leads_to_a_port_of_its_pods() -> None:
    for name, service in of_kind("Service").items():
        labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        named = {each["name"] for each in container(name)["ports"]}
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= named


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_probes_ask_the_pages_of_health(name: str) -> None:
    found = container(name)
    asked = {
        kind: found[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")
    }
    assert {kind: each["path"] for kind, each in asked.items()} == {
        "startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz",
    }  # fmt: skip
    assert {each["port"] for each in asked.values()} == {"metrics"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_role_that_stands_still_for_a_moment_is_not_killed(name: str) -> None:
    live = container(name)["livenessProbe"]
    # What is well may be silent for a minute (worker.health).
    assert live["periodSeconds"] * live["failureThreshold"] > 60
    # It gives each look four seconds before it answers.
    assert container(name)["readinessProbe"]["timeoutSeconds"] > 4


@pytest.mark.parametrize("name", ["node", "worker-io", "worker-gpu"])
def test_a_role_is_given_time_to_end(name: str) -> None:
    assert PODS[name]["terminationGracePeriodSeconds"] > up.STOP_S


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_no_rights(name: str) -> None:
    """As the Pod Security Standard `restricted` has it, and more."""
    pod, found = PODS[name], container(name)
    about = pod["securityContext"]
    assert about["runAsNonRoot"] is True
    assert about["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    own = found["securityContext"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {kind for volume in pod["volumes"] for kind in volume} - {"name"}
    assert kinds <= {"persistentVolumeClaim", "emptyDir", "secret"}


def test_the_user_is_that_of_the_images() -> None:
    uid = re.findall(r"useradd --system --uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert {pod["securityContext"]["runAsUser"] for pod in PODS.values()} == {int(uid[0])}


def test_images_are_targets_of_the_dockerfile_in_this_version() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ours = {each["image"] for each in compose.values() if "build" in each}
    used = {container(name)["image"].partition(":")[0] for name in PODS}
    assert used == ours
    pinned = {each["name"]: each["newTag"] for each in KUSTOMIZATION["images"]}
    assert pinned == dict.fromkeys(ours, VERSION)
    assert container("admin")["image"].endswith(f":{VERSION}")


@pytest.mark.parametrize("name", PODS)
def test_folders_that_are_written_to_are_mounted(name: str) -> None:
    mounts = {each["mountPath"]: each["name"] for each in container(name)["volumeMounts"]}
    assert set(mounts.values()) == {each["name"] for each in PODS[name]["volumes"]}
    assert mounts["/tmp"] == "tmp"
    if name != "migrate":
        assert mounts["/var/lib/cxr-worker/archive"] == "archive"
    settings = Settings.from_env(environment(name))
    if name in ("web", "admin", "worker-io"):
        assert str(settings.audit_path.parent) in mounts


def test_the_archive_is_one_that_several_machines_may_mount() -> None:
    claims = of_kind("PersistentVolumeClaim")
    assert claims["archive"]["spec"]["accessModes"] == ["ReadWriteMany"]
    used = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in PODS.values() for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    }  # fmt: skip
    assert used == set(claims)


def test_each_pod_that_classifies_has_a_gpu_of_its_own() -> None:
    found = container("worker-gpu")
    assert found["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert found["args"][-2:] == ["--concurrency", "1"]
    assert environment("worker-gpu")["CXR_DEVICE"] == "gpu"
    assert not any("nvidia.com/gpu" in str(container(name)) for name in set(PODS) - {"worker-gpu"})


def test_what_may_not_be_missed_runs_twice_and_is_never_taken_away_at_once() -> None:
    twice = {name for name, each in DEPLOYMENTS.items() if each["spec"]["replicas"] > 1}
    assert twice == set(DEPLOYMENTS) - {"web"}
    budgets = of_kind("PodDisruptionBudget")
    assert set(budgets) == twice
    for name, budget in budgets.items():
        labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budget["spec"]["minAvailable"] < DEPLOYMENTS[name]["spec"]["replicas"]


def test_selectors_find_their_own_pods() -> None:
    for name, each in DEPLOYMENTS.items():
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"] == labels
        assert labels["app.kubernetes.io/component"] == name


# --- the network -----------------------------------------------------------------------------


def test_nothing_is_reached_but_what_is_allowed() -> None:
    policies = of_kind("NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    named = {port["name"] for name in DEPLOYMENTS for port in container(name)["ports"]}
    allowed = {
        port["port"]
        for policy in policies.values()
        for rule in policy["spec"].get("ingress", ())
        for port in rule["ports"]
    }
    assert allowed == named
    assert all(
        rule["from"] for each in policies.values() for rule in each["spec"].get("ingress", ())
    )


# --- secrets ---------------------------------------------------------------------------------


def test_secrets_are_named_and_never_written_down() -> None:
    assert not of_kind("Secret")
    named = {each["secretRef"]["name"] for name in PODS for each in container(name)["envFrom"]
             if "secretRef" in each}  # fmt: skip
    named |= {volume["secret"]["secretName"] for pod in PODS.values()
              for volume in pod["volumes"] if "secret" in volume}  # fmt: skip
    assert named == SECRETS
    assert all(f"secret generic {name} " in DOCUMENT or f"secret tls {name} " in DOCUMENT
               for name in SECRETS)  # fmt: skip


def test_no_setting_in_the_open_may_hold_a_password() -> None:
    keys = {*CONFIG, *(each["name"] for name in PODS for each in container(name).get("env", ()))}
    assert not [key for key in keys if re.search(r"PASSWORD|_URL$|TOKEN|SECRET", key)]
    for path in FOLDER.rglob("*.yaml"):
        assert not re.search(r"://[^/\s]*:[^/\s]*@", path.read_text()), path.name


def test_without_the_secret_no_role_would_run_on_files_of_its_own() -> None:
    """A role that is given no secret is not started: the secret is not optional."""
    for name in PODS:
        refs = [each["secretRef"] for each in container(name)["envFrom"] if "secretRef" in each]
        assert refs == [{"name": "cxr-worker"}]


def test_web_pages_have_a_certificate() -> None:
    env = environment("web")
    mounts = {each["mountPath"]: each["name"] for each in container("web")["volumeMounts"]}
    assert mounts[str(Path(env["CXR_WEB_CERTIFICATE"]).parent)] == "certificate"
    del env["CXR_WEB_CERTIFICATE"]
    with pytest.raises(ConfigurationError):
        Settings.from_env(env)


# --- without a GPU ---------------------------------------------------------------------------


def test_the_overlay_without_a_gpu_changes_what_is_there() -> None:
    overlay = yaml.safe_load((FOLDER / "cpu" / "kustomization.yaml").read_text())
    (patch,) = overlay["patches"]
    assert patch["target"] == {"kind": "Deployment", "name": "worker-gpu"}
    found = yaml.safe_load((BASE / "worker-gpu.yaml").read_text())
    for change in yaml.safe_load(patch["patch"]):
        *above, last = [part.replace("~1", "/") for part in change["path"][1:].split("/")]
        place = found
        for part in above:
            place = place[int(part)] if isinstance(place, list) else place[part]
        assert last in place
        if change["op"] == "remove":
            del place[last]
        else:
            place[last] = change["value"]
    kubernetes_validate.validate(found, VERSIONS[-1], strict=True)
    (changed,) = found["spec"]["template"]["spec"]["containers"]
    # The images of the base are named before its overlays change anything.
    assert changed["image"] == f"{container('worker-io')['image']}:{VERSION}"
    assert "nvidia.com/gpu" not in changed["resources"]["limits"]
    assert {each["name"]: each["value"] for each in changed["env"]} == {"CXR_DEVICE": "cpu"}
