"""The files of a deployment, checked without a container engine; tests/e2e/test_compose.py runs their commands."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONFIG = 'version: 1\nsources: {shop: {kind: shopify, secrets: ["env:SHOPIFY_SECRET"]}}\n'
SECRET = re.compile(r"(SECRET|TOKEN|KEY|PASSWORD)\w*=\S|pk_[0-9a-z]{8}|whsec_|shpat_", re.IGNORECASE)
IN_PATH = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def read(path: str) -> str:
    return (ROOT / path).read_text()


# --- the image -------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, argument), lines that go on put together."""
    text = re.sub(r"^\s*#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()]


def of(instruction: str) -> list[str]:
    return [argument for name, argument in instructions() if name == instruction]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_image_has_two_stages_of_one_pinned_python() -> None:
    build, run = of("FROM")
    assert build == f"{run} AS build"
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", run)
    wanted = tomllib.loads(read("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    tag = run.removeprefix("python:").partition("-")[0]
    assert [int(part) for part in tag.split(".")] >= [int(part) for part in wanted.split(".")]


def test_the_image_runs_as_nobody_special_and_stops_in_order() -> None:
    last = [name for name, _ in instructions()]
    final = instructions()[len(last) - last[::-1].index("FROM") - 1 :]
    told = dict(final)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", told["USER"])
    assert last.index("USER") > max(index for index, name in enumerate(last) if name == "RUN")
    assert told["STOPSIGNAL"] == "SIGTERM"
    assert told["VOLUME"] == "/data"
    assert not of("ADD")
    assert not [name for name, _ in final if name == "COPY"]  # sources stay in the first stage
    assert not SECRET.search(read("Dockerfile"))


def test_what_is_copied_is_there_and_nothing_else_gets_in() -> None:
    copied = [source.removeprefix("./") for line in of("COPY") for source in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    ignored = [line for line in read(".dockerignore").splitlines() if line and not line.startswith("#")]
    assert ignored[0] == "*"
    assert sorted(line.removeprefix("!") for line in ignored if line.startswith("!")) == sorted(copied)


def test_every_file_of_the_packages_is_in_their_wheel() -> None:
    data = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]
    tracked = subprocess.run(["git", "ls-files", "connector", "adapters"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a checkout: there is no list of the files that belong to it")
    for name in tracked.stdout.split():
        package, _, rest = name.partition("/")
        found = name.endswith((".py", "/py.typed")) or any(  # setuptools takes py.typed along by itself
            fnmatch.fnmatch(rest, pattern.replace("**/", "*")) for pattern in data[package]
        )
        assert found, f"{name} would not be installed: [tool.setuptools.package-data]"


def test_the_example_of_the_environment_names_only_what_there_is() -> None:
    lines = [line for line in (DEPLOY / "storecue.env.example").read_text().splitlines() if line and line[0] != "#"]
    told = dict(line.split("=", 1) for line in lines)
    assert not [name for name, value in told.items() if value and SECRET.search(f"{name}={value}")]
    Settings.from_environment(told)
    known = re.findall(r"`(STORECUE_\w+)`", read("docs/configuration.md"))
    assert {name for name in told if name.startswith("STORECUE_")} <= set(known)


# --- systemd, Procfile, Kubernetes -----------------------------------------------------------------------------------


UNITS = ("storecue.service", "storecue-web.service", "storecue-worker@.service")


def unit(name: str) -> dict[str, list[str]]:
    """The service's settings, each with every value it is given."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_the_unit(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here; the tests below read the unit without it")
    file = tmp_path / name.replace("@.", "@1.")
    text = (DEPLOY / name).read_text().replace("/opt/storecue/bin/storecue", "/bin/true")
    file.write_text(text)
    command = [analyze, "verify", "--recursive-errors=no", str(file)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    file.write_text(text.replace("ProtectSystem=", "ProtectSytem="))
    result = subprocess.run(command, capture_output=True, text=True)
    assert "ProtectSytem" in result.stderr  # it does look


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_stops_in_order_and_can_do_little(name: str) -> None:
    told = unit(name)
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert told[name] == ["yes"]
    assert told["ProtectSystem"] == ["strict"]
    assert told["CapabilityBoundingSet"] == [""]
    assert told["User"] != ["root"]
    assert told["Restart"] == ["always"]
    assert told["KillMode"] == ["mixed"]
    assert int(told["TimeoutStopSec"][0]) > 10
    assert f"STORECUE_DATA=/var/lib/{told['StateDirectory'][0]}" in told["Environment"][0]


SHAPES = ("storecue.yaml", "postgres.yaml")


def manifests(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / file).read_text()))


def of_kind(file: str, kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests(file) if manifest["kind"] == kind]


PODS = {
    f"{file} {manifest['metadata']['name']}": manifest["spec"]["template"]["spec"]
    for file in SHAPES
    for manifest in manifests(file)
    if "template" in manifest.get("spec", {})
}


@pytest.mark.parametrize("file", SHAPES)
def test_kubernetes_knows_every_key(file: str) -> None:
    for manifest in manifests(file):
        kubernetes_validate.validate(manifest, "1.33", strict=True)
    [wrong] = [
        one
        for one in manifests(file)
        if one["metadata"]["name"] in ("storecue", "storecue-web") and "template" in one.get("spec", {})
    ]
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_can_do_little(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == of("USER")[0]
    assert pod["terminationGracePeriodSeconds"] > 10
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["envFrom"] == [{"secretRef": {"name": "storecue"}}]
        assert container["resources"]["limits"]["memory"] and "cpu" not in container["resources"]["limits"]
        assert {mount["name"] for mount in container["volumeMounts"]} >= {"data", "tmp"}
        if "livenessProbe" in container:
            assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("file", SHAPES)
def test_what_is_selected_is_there_and_no_secret_is_written_down(file: str) -> None:
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in manifests(file)
        if "template" in one.get("spec", {})
    }
    for manifest in manifests(file):
        assert manifest["kind"] != "Secret"
        selector = manifest.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", selector)
        if wanted:
            chosen = [name for name, has in labels.items() if wanted.items() <= has.items()]
            assert len(chosen) == 1, manifest["kind"]
    [config] = of_kind(file, "ConfigMap")
    configuration_from(parse(config["data"]["storecue.yaml"]))


def test_on_sqlite_there_is_one_pod_and_one_disk() -> None:
    [spec] = [one["spec"] for one in of_kind("storecue.yaml", "StatefulSet")]
    assert spec["replicas"] == 1  # SQLite is one machine's
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    [container] = spec["template"]["spec"]["containers"]
    assert container["args"] == json.loads(of("CMD")[-1])


def test_on_postgresql_an_update_leaves_nobody_unanswered() -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in of_kind("postgres.yaml", "Deployment")}
    web, worker = found["storecue-web"], found["storecue-worker"]
    assert web["replicas"] >= 2 and worker["replicas"] >= 2
    assert web["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    pod = web["template"]["spec"]
    [container] = pod["containers"]
    # It goes on answering until no more is sent to it, and then has its 10 s.
    assert pod["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + 10
    [budget] = of_kind("postgres.yaml", "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] < web["replicas"]
    [setup] = pod["initContainers"]
    assert setup["image"] == container["image"]
    assert not any(
        "persistentVolumeClaim" in volume for one in (web, worker) for volume in one["template"]["spec"]["volumes"]
    )


def commands() -> set[str]:
    """Every command of StoreCue's that the units, the Procfile, the compose files and the manifests give."""
    units = (unit(name).get(key, []) for name in UNITS for key in ("ExecStart", "ExecReload"))
    found = {line.removeprefix("/opt/storecue/bin/") for lines in units for line in lines}
    found |= {line.split(": ", 1)[1] for line in read("Procfile").splitlines()}
    composed = (yaml.safe_load(read(name))["services"].values() for name in ("compose.yaml", "compose.postgres.yaml"))
    lists = [
        one["command"] for services in composed for one in services if "storecue:" in one["image"] and "command" in one
    ]
    lists += [one["args"] for pod in PODS.values() for one in [*pod["containers"], *pod.get("initContainers", [])]]
    return found | {shlex.join(["storecue", *words]) for words in lists}


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_is_one_that_storecue_has(command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "storecue"
    options = [word for word in words[2:] if word.startswith("--")]
    run = [sys.executable, "-m", "connector", words[1], "--help"]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert all(option in result.stdout for option in options)


# --- the proxy -------------------------------------------------------------------------------------------------------


def test_the_proxies_leave_a_body_alone_and_let_the_largest_through() -> None:
    largest = Settings.from_environment({}).max_body
    caddy, nginx = (DEPLOY / "Caddyfile").read_text(), (DEPLOY / "nginx.conf").read_text()
    sizes = {"caddy": re.search(r"max_size (\d+)MB", caddy), "nginx": re.search(r"client_max_body_size (\d+)m;", nginx)}
    for proxy, found in sizes.items():
        assert found is not None and int(found[1]) * 1_000_000 > largest, proxy
    for text in (caddy, nginx):
        bare = re.sub(r"#.*", "", text)
        assert bare.count("{") == bare.count("}")
        assert "127.0.0.1:8080" in bare
        assert "/metrics" in bare
        assert not re.search(r"sub_filter|gunzip|encode|proxy_set_body|mirror", bare)
    assert "non_idempotent" not in re.sub(r"#.*", "", nginx) and "lb_retry_match" not in caddy
    lines = [line.strip() for line in re.sub(r"#.*", "", nginx).splitlines() if line.strip()]
    assert all(line.endswith((";", "{", "}")) for line in lines)
