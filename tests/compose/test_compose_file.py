"""What docker-compose.yml and the Dockerfile promise about safety, service by service, without starting anything."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WHOLE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = WHOLE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

service = pytest.mark.parametrize("name", SERVICES)


@service
def test_nothing_can_be_written_or_gained_in_a_container(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "cap_add" not in one
    assert "privileged" not in one
    assert one["security_opt"] == ["no-new-privileges:true"]


@service
def test_nobody_is_root(name: str) -> None:
    one = SERVICES[name]
    user = str(one["user"]) if "user" in one else _user_of_target(one["build"]["target"])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), user


def _user_of_target(target: str) -> str:
    stage = re.split(r"(?m)^FROM ", DOCKERFILE.split(f" AS {target}\n")[1])[0]
    users: list[str] = re.findall(r"(?m)^USER (\S+)$", stage)
    assert "RUN" not in stage.rsplit("USER", 1)[1], "what runs last in the build must not be root's"
    return users[-1]


@service
def test_memory_is_limited(name: str) -> None:
    assert re.fullmatch(r"[1-9]\d*[mg]", SERVICES[name]["mem_limit"])


@service
def test_signals_arrive_and_the_end_comes_within_ten_seconds(name: str) -> None:
    assert SERVICES[name]["init"] is True
    assert SERVICES[name]["stop_grace_period"] == "10s"


def test_the_entrypoint_gives_its_place_to_the_command() -> None:
    assert re.search(r'(?m)^exec "\$@"$', (ROOT / "iac/containers/entrypoint.sh").read_text(encoding="utf-8"))


@service
def test_secrets_are_files_that_the_container_cannot_change(name: str) -> None:
    one = SERVICES[name]
    for variable in one.get("environment", {}):
        assert not re.search(r"TOKEN|PASSWORD|SECRET|KEY", variable) or variable.endswith("_FILE"), variable
    for volume in one.get("volumes", []):
        if "/run/quantahr/secrets" in volume or ("/run/quantahr/keys" in volume and name != "keys"):
            assert "ro" in volume.rsplit(":", 1)[1].split(","), volume


@pytest.mark.parametrize("name", ["redis", "postgres", "worker", "worker-gpu", "beat"])
def test_who_holds_documents_and_questions_has_no_way_out(name: str) -> None:
    assert WHOLE["networks"]["inside"]["internal"] is True
    assert SERVICES[name]["networks"] == ["inside"]
    assert "ports" not in SERVICES[name]


@service
def test_what_is_published_is_published_on_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@service
def test_a_service_says_how_its_health_is_seen_or_that_it_is_not(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check == {"disable": True} or {"test", "interval", "timeout"} <= check.keys()


def test_the_documents_are_mounted_read_only() -> None:
    mounted = [volume for one in SERVICES.values() for volume in one.get("volumes", []) if "/app/data" in volume]
    assert mounted
    assert all("ro" in volume.rsplit(":", 1)[1].split(",") for volume in mounted)


def test_no_document_of_an_operator_is_built_into_an_image() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split() if line[0] == "!"]
    copied = [line.split() for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert "secrets" not in allowed
    assert not any(source.startswith("data") for line in copied for source in line[1:-1])
