"""The files of a deployment, checked without a container engine; and their own commands, run bare."""

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from connector.config.schema import configuration_from
from connector.config.settings import Settings
from connector.config.yaml_file import parse
from tests.mortal import dies_with_us

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


def test_the_image_s_own_commands_run_bare(tmp_path: Path) -> None:
    """From the files that are copied, with the environment, the command, the health check and the signal it names."""
    for line in of("COPY"):
        for source in line.split()[:-1]:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
            copy(ROOT / source, tmp_path / source)  # type: ignore[operator]
    (tmp_path / "storecue.yaml").write_text(CONFIG)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environ = {name: value for name, value in IN_PATH.items() if not name.startswith("STORECUE_")}
    environ |= dict(pair.split("=", 1) for pair in shlex.split(of("ENV")[0]))
    environ |= {"STORECUE_DATA": str(tmp_path / "data"), "STORECUE_PORT": str(port), "SHOPIFY_SECRET": "hush"}
    environ |= {"STORECUE_HOST": "127.0.0.1", "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    assert of("ENTRYPOINT") == ['["storecue"]']
    command = [part.replace("/etc/storecue", str(tmp_path)) for part in json.loads(of("CMD")[-1])]
    check = json.loads(of("HEALTHCHECK")[0].partition("CMD ")[2])
    assert check[0] == "python"

    def healthy() -> bool:
        return subprocess.run([sys.executable, *check[1:]], env=environ, capture_output=True).returncode == 0

    assert not healthy()  # nothing answers yet
    process = subprocess.Popen(
        [sys.executable, "-m", "connector", *command],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=dies_with_us(),
    )
    try:
        deadline = time.monotonic() + 40
        while not healthy():
            assert process.poll() is None and time.monotonic() < deadline
        began = time.monotonic()
        process.send_signal(signal.Signals[of("STOPSIGNAL")[0]])
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert time.monotonic() - began < 10
        assert not healthy()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


# --- compose ---------------------------------------------------------------------------------------------------------

TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SPAN = {"type": "string", "pattern": r"^\d+(s|m)$"}


def closed(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


# The keys of the Compose specification that are used here: any other is a mistake in writing.
COMPOSE = closed(
    "name services volumes",
    name={"type": "string"},
    services=closed(
        "storecue",
        storecue=closed(
            "build image restart env_file ports volumes read_only tmpfs cap_drop security_opt stop_grace_period deploy "
            "healthcheck logging",
            build={"const": "."},
            image={"type": "string", "pattern": r"^storecue:\d+\.\d+\.\d+$"},
            restart={"enum": ["always", "unless-stopped", "on-failure"]},
            init={"const": True},
            env_file={"type": "string"},
            ports={"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:8080$"}},
            volumes=TEXTS,
            read_only={"const": True},
            tmpfs=TEXTS,
            cap_drop={"const": ["ALL"]},
            security_opt=TEXTS,
            stop_grace_period=SPAN,
            deploy=closed(
                "resources",
                resources=closed(
                    "limits",
                    limits=closed(
                        "cpus memory pids",
                        cpus={"type": "string"},
                        memory={"type": "string", "pattern": r"^\d+[mg]$"},
                        pids={"type": "integer"},
                    ),
                ),
            ),
            healthcheck=closed(
                "test interval timeout retries",
                test=TEXTS,
                interval=SPAN,
                timeout=SPAN,
                start_period=SPAN,
                retries={"type": "integer"},
            ),
            logging=closed("driver options", driver={"type": "string"}, options={"type": "object"}),
        ),
    ),
    volumes={"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
)


def test_the_compose_file_is_what_compose_knows() -> None:
    compose = yaml.safe_load(read("compose.yaml"))
    jsonschema.Draft202012Validator(COMPOSE).validate(compose)
    service = compose["services"]["storecue"]
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert service["image"] == f"storecue:{version}"
    named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")}
    assert named == set(compose["volumes"])
    assert {volume.split(":")[1] for volume in service["volumes"]} == {"/data", json.loads(of("CMD")[-1])[2]}
    assert int(service["stop_grace_period"].removesuffix("s")) > 10
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "/healthz" in service["healthcheck"]["test"][-1]
    compile(service["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert not SECRET.search(read("compose.yaml"))


def test_the_example_of_the_environment_names_only_what_there_is() -> None:
    lines = [line for line in (DEPLOY / "storecue.env.example").read_text().splitlines() if line and line[0] != "#"]
    told = dict(line.split("=", 1) for line in lines)
    assert not [name for name, value in told.items() if value and SECRET.search(f"{name}={value}")]
    Settings.from_environment(told)
    known = re.findall(r"`(STORECUE_\w+)`", read("docs/configuration.md"))
    assert {name for name in told if name.startswith("STORECUE_")} <= set(known)


# --- systemd, Procfile, Kubernetes -----------------------------------------------------------------------------------


def unit() -> dict[str, list[str]]:
    """The service's settings, each with every value it is given."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "storecue.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here; the tests below read the unit without it")
    text = (DEPLOY / "storecue.service").read_text().replace("/opt/storecue/bin/storecue", "/bin/true")
    (tmp_path / "storecue.service").write_text(text)
    command = [analyze, "verify", "--recursive-errors=no", str(tmp_path / "storecue.service")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    (tmp_path / "storecue.service").write_text(text.replace("ProtectSystem=", "ProtectSytem="))
    result = subprocess.run(command, capture_output=True, text=True)
    assert "ProtectSytem" in result.stderr  # it does look


def test_the_unit_stops_in_order_and_can_do_little() -> None:
    told = unit()
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert told[name] == ["yes"]
    assert told["ProtectSystem"] == ["strict"]
    assert told["CapabilityBoundingSet"] == [""]
    assert told["User"] != ["root"]
    assert told["Restart"] == ["always"]
    assert told["KillMode"] == ["mixed"]
    assert int(told["TimeoutStopSec"][0]) > 10
    assert f"STORECUE_DATA=/var/lib/{told['StateDirectory'][0]}" in told["Environment"][0]


@pytest.mark.parametrize("command", ["ExecStart", "ExecReload", "web", "worker"])
def test_every_command_is_one_that_storecue_has(command: str) -> None:
    process = dict(line.split(": ", 1) for line in read("Procfile").splitlines())
    words = shlex.split(process[command] if command in process else unit()[command][0])
    assert Path(words[0]).name == "storecue"
    options = [word for word in words[2:] if word.startswith("--")]
    run = [sys.executable, "-m", "connector", words[1], "--help"]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert all(option in result.stdout for option in options)


def manifests() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load_all((DEPLOY / "kubernetes" / "storecue.yaml").read_text())
    return {manifest["kind"]: manifest for manifest in found}


def test_kubernetes_knows_every_key() -> None:
    assert set(manifests()) == {"ConfigMap", "Service", "StatefulSet"}
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, "1.33", strict=True)
    wrong = manifests()["StatefulSet"]
    wrong["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_the_pod_is_one_and_can_do_little() -> None:
    spec = manifests()["StatefulSet"]["spec"]
    assert spec["replicas"] == 1  # SQLite is one machine's
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == of("USER")[0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["args"] == json.loads(of("CMD")[-1])
    assert container["envFrom"] == [{"secretRef": {"name": "storecue"}}]
    assert "Secret" not in manifests()
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {claim["metadata"]["name"], *(volume["name"] for volume in pod["volumes"])}
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == manifests()["Service"]["spec"]["selector"]
    configuration_from(parse(manifests()["ConfigMap"]["data"]["storecue.yaml"]))


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
    lines = [line.strip() for line in re.sub(r"#.*", "", nginx).splitlines() if line.strip()]
    assert all(line.endswith((";", "{", "}")) for line in lines)


def test_nothing_is_written_for_what_does_not_work_yet() -> None:
    """No service for a database or a broker before StoreCue speaks to it."""
    for path in (ROOT / "compose.yaml", *DEPLOY.rglob("*")):
        if path.is_file():
            assert not re.search(r"postgres|kafka|redis", path.read_text(), re.IGNORECASE), path
