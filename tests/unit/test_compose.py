"""compose.yaml, Dockerfile and .dockerignore, held against the code they deploy.

No container engine is needed: the file is checked with the schema of the Compose Specification, and
what it says is compared with the settings, the command line and the folders that are there.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from worker.__main__ import app
from worker.settings import Settings, describe_settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ROLES = {name: service for name, service in OURS.items() if service["restart"] != "no"}
OTHERS = {name: service for name, service in SERVICES.items() if "build" not in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
LINES = [line.strip() for line in DOCKERFILE.splitlines()]


def stages() -> dict[str, list[str]]:
    """Give the lines of each stage of the Dockerfile, with those of the stages it is built from."""
    found: dict[str, list[str]] = {}
    for line in LINES:
        start = re.fullmatch(r"FROM (\S+) AS (\S+)", line)
        if start:
            base, current = start.groups()
            found[current] = [*found.get(base, []), line]
        elif found and line and not line.startswith("#"):
            found[current].append(line)
    return found


def interpolated(text: str) -> str:
    """Give a value as Compose does when no variable is set (``${NAME:-default}``)."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_compose_file_is_valid_by_the_compose_specification() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, "compose.yaml"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_services_of_the_house_are_there() -> None:
    assert set(OURS) == {
        "node", "node-b", "relay", "worker", "worker-gpu", "worker-gpu-box", "worker-io", "migrate",
        "web",
    }  # fmt: skip
    assert set(OTHERS) == {"redis", "postgres", "orthanc", "balancer", "door"}


@pytest.mark.parametrize("name", OURS)
def test_settings_in_the_environment_exist_and_are_valid(name: str) -> None:
    environment = {key: interpolated(value) for key, value in OURS[name]["environment"].items()}
    assert set(environment) <= {key for key, _, _ in describe_settings()}
    settings = Settings.from_env(environment)
    assert settings.database_url.startswith("postgresql+psycopg://")
    assert not settings.embedded_broker
    assert [str(each.peer) for each in settings.destinations] == ["ORTHANC@orthanc:4242"]


# Settings that the services, volumes and ports of the file decide.
FIXED = {
    "CXR_HOME", "CXR_BIND", "CXR_PORT", "CXR_DATABASE_URL", "CXR_BROKER_URL",
    "CXR_BROKER_AUTHORITY", "CXR_BROKER_CERTIFICATE", "CXR_BROKER_KEY", "CXR_BROKER_MASTER",
    "CXR_BROKER_SENTINEL_PASSWORD", "CXR_ARCHIVE", "CXR_SPOOL", "CXR_S3_ENDPOINT",
    "CXR_AUDIT_FILE", "CXR_DEVICE", "CXR_METRICS_PORT", "CXR_METRICS_BIND", "CXR_WEB_PORT",
    "CXR_WEB_BIND", "CXR_WEB_CERTIFICATE", "CXR_WEB_KEY",
}  # fmt: skip


def test_every_setting_is_passed_on_or_fixed_by_the_file() -> None:
    passed = {
        key
        for role in ROLES.values()
        for key, value in role["environment"].items()
        if value.startswith(f"${{{key}:-")
    }
    assert not passed & FIXED
    assert passed | FIXED == {key for key, _, _ in describe_settings()}


def test_what_all_roles_are_told_only_the_pages_are_told_more() -> None:
    shared = set(COMPOSE["x-settings"])
    for name, role in ROLES.items():
        own = set(role["environment"]) - shared
        assert all(re.match("CXR_(WEB|OIDC|DICOMWEB|DEVICE)", key) for key in own), name


@pytest.mark.parametrize("name", OURS)
def test_command_is_one_that_the_command_line_knows(name: str) -> None:
    words = list(OURS[name]["command"])
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_parser(command.make_context(name, [], resilient_parsing=True)).parse_args(words)


@pytest.mark.parametrize("name", OURS)
def test_image_is_a_target_of_the_dockerfile(name: str) -> None:
    assert OURS[name]["build"]["target"] in stages()


def test_queues_of_either_profile_are_all_served() -> None:
    def queues(profile: str) -> set[str]:
        commands = [s["command"] for s in OURS.values() if profile in s.get("profiles", [profile])]
        return {queue for c in commands if "--queues" in c for queue in c[2].split(",")}

    assert queues("cpu") == queues("gpu") == {"gpu", "io"}


PROFILES = ("cpu", "gpu", "web", "node-box", "gpu-box", "cluster")


def services_of(profile: str) -> set[str]:
    return {name for name, each in SERVICES.items() if profile in each["profiles"]}


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_service_waits_for_is_there_in_each_of_its_profiles(profile: str) -> None:
    there = services_of(profile)
    assert there
    for name in there:
        assert set(SERVICES[name].get("depends_on", ())) <= there


def test_there_are_no_other_profiles_and_nothing_starts_without_one() -> None:
    assert {each for service in SERVICES.values() for each in service["profiles"]} == set(PROFILES)


def test_two_boxes_have_together_what_one_has() -> None:
    assert services_of("gpu-box") == {"worker-gpu-box"}
    one = services_of("gpu") - {"worker-gpu", "orthanc"}
    assert services_of("node-box") == one | {"door"}
    assert ROLES["worker-gpu-box"]["command"] == ROLES["worker-gpu"]["command"]


def test_a_box_with_a_gpu_is_told_where_the_other_box_is() -> None:
    other, own = ROLES["worker-gpu"]["environment"], ROLES["worker-gpu-box"]["environment"]
    assert {key for key in own if own[key] != other[key]} == {"CXR_DATABASE_URL", "CXR_BROKER_URL"}
    options = COMPOSE["volumes"]["archive-of-node-box"]["driver_opts"]
    for text in (own["CXR_DATABASE_URL"], own["CXR_BROKER_URL"], options["o"]):
        assert "${NODE_BOX:-" in text
    assert "hard" in options["o"]


def test_the_door_lets_one_machine_in_and_stands_open_to_none_unless_told() -> None:
    assert [interpolated(port) for port in SERVICES["door"]["ports"]] == [
        "127.0.0.1:5432:5432", "127.0.0.1:6379:6379",
    ]  # fmt: skip
    text = COMPOSE["configs"]["door"]["content"]
    assert text.count("listen ") == text.count("reject unless { src ${GPU_BOX:-127.0.0.1} ") == 2


def test_the_balancer_leads_to_each_node() -> None:
    text = COMPOSE["configs"]["balancer"]["content"]
    nodes = {name for name, each in ROLES.items() if each["command"] == ["node"]}
    port = Settings.model_fields["port"].default
    assert set(re.findall(rf"server (\S+) \1:{port} check", text)) == nodes
    assert f"bind :{port}" in text
    assert set(SERVICES["balancer"]["depends_on"]) == nodes


@pytest.mark.parametrize("name", ["worker-gpu", "worker-gpu-box"])
def test_gpu_profile_reserves_a_gpu_and_insists_on_it(name: str) -> None:
    service = SERVICES[name]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert service["environment"]["CXR_DEVICE"] == "gpu"


@pytest.mark.parametrize("name", ROLES)
def test_role_waits_for_the_migration_and_shares_the_archive(name: str) -> None:
    role, volume = ROLES[name], "archive"
    if name == "worker-gpu-box":
        volume = "archive-of-node-box"
        assert role["depends_on"] == []
    else:
        assert role["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    volumes = dict(each.split(":") for each in role["volumes"])
    assert volumes[volume] == "/var/lib/cxr-worker/archive"
    made = " ".join(stages()[role["build"]["target"]])
    assert all(folder in made for folder in volumes.values())


@pytest.mark.parametrize("name", sorted(ROLES) + sorted(OTHERS))
def test_service_that_stays_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ROLES)
def test_health_check_is_valid_python(name: str) -> None:
    kind, python, option, program = ROLES[name]["healthcheck"]["test"]
    assert (kind, python, option) == ("CMD", "python", "-c")
    ast.parse(program)


@pytest.mark.parametrize("name", ROLES)
def test_role_answers_for_its_health_to_the_other_services_alone(name: str) -> None:
    environment = ROLES[name]["environment"]
    settings = Settings.from_env({key: interpolated(value) for key, value in environment.items()})
    assert (settings.metrics_bind, settings.metrics_port) == ("0.0.0.0", 9110)
    published = [interpolated(port).split(":")[-1] for port in ROLES[name].get("ports", [])]
    assert "9110" not in published


@pytest.mark.parametrize("name", OURS)
def test_container_has_no_privileges_and_a_read_only_root(name: str) -> None:
    assert OURS[name]["cap_drop"] == ["ALL"]
    assert OURS[name]["read_only"] is True
    assert OURS[name]["security_opt"] == ["no-new-privileges:true"]


def test_node_is_given_time_to_finish_its_associations() -> None:
    # `cxr-worker node` lets associations finish for 10 s, a worker its task.
    assert all(int(role["stop_grace_period"].removesuffix("s")) >= 30 for role in ROLES.values())


def test_database_and_broker_are_not_published() -> None:
    assert "ports" not in SERVICES["redis"]
    assert "ports" not in SERVICES["postgres"]


def test_redis_keeps_nothing() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "no"
    assert command[command.index("--save") + 1] == ""
    assert "volumes" not in SERVICES["redis"]


def test_orthanc_knows_the_node_as_a_modality() -> None:
    modalities = yaml.safe_load(SERVICES["orthanc"]["environment"]["ORTHANC__DICOM_MODALITIES"])
    assert modalities == {"cxr-worker": ["CXRWORKER", "node", 11112]}


@pytest.mark.parametrize("name", OTHERS)
def test_foreign_image_is_pinned_by_its_version(name: str) -> None:
    image, colon, tag = OTHERS[name]["image"].partition(":")
    assert colon
    assert re.match(r"\d+(\.\d+)*", tag)
    assert "." not in image.split("/")[0], "no registry host"


def test_volumes_that_are_used_are_declared() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])
    configs = {c["source"] for service in SERVICES.values() for c in service.get("configs", [])}
    assert configs == set(COMPOSE["configs"])


# --- Dockerfile ------------------------------------------------------------------------------


def test_every_package_is_installed_with_its_hash() -> None:
    installs = re.findall(r"pip install([^&\n]*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in words for words in installs)


def test_base_images_are_pinned_and_name_no_registry_host() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    foreign = {base for base in bases if base not in stages()}
    assert all(":" in base and "latest" not in base for base in foreign)
    assert not any("." in base.split("/")[0] for base in foreign if "/" in base)


@pytest.mark.parametrize("target", ["node", "worker", "worker-gpu"])
def test_image_runs_as_an_unprivileged_user(target: str) -> None:
    users = [line.split()[1] for line in stages()[target] if line.startswith("USER")]
    assert users[-1:] == ["cxr"]


@pytest.mark.parametrize("target", ["node", "worker", "worker-gpu"])
def test_image_holds_every_package_of_the_project(target: str) -> None:
    copies = [line.split() for line in stages()[target] if line.startswith("COPY ")]
    sources = {words[1] for words in copies if not words[1].startswith("--")}
    assert {"dicom_node", "worker", "migrations", "model"} <= sources
    assert all((ROOT / source).exists() for source in sources)


def test_node_image_has_no_tensorflow() -> None:
    assert "--from=node-packages" in " ".join(stages()["node"])
    locked = (ROOT / "requirements" / "node.txt").read_text()
    assert not re.search(r"^(tensorflow|keras|highdicom)\b", locked, flags=re.MULTILINE)
    assert re.search(r"^pynetdicom==", locked, flags=re.MULTILINE)


def test_node_image_can_ring_by_redis() -> None:
    # kombu's Redis transport imports both without asking for them.
    locked = (ROOT / "requirements" / "node.txt").read_text()
    assert re.search(r"^redis==", locked, flags=re.MULTILINE)
    assert re.search(r"^packaging==", locked, flags=re.MULTILINE)


def test_build_context_holds_what_is_copied_and_nothing_else() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = set(re.findall(r"^COPY ([^-\s]\S*)", DOCKERFILE, flags=re.MULTILINE))
    assert {source.split("/")[0] for source in copied} == allowed
