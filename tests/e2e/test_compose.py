"""The compose files: what Compose knows, and the commands of their services, run bare, from first start to stop."""

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
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import check_jsonschema
import jsonschema
import psutil
import pytest
import yaml

from connector.simulator.delivery import encode, sign
from tests.chaos.places import LOGS, Place
from tests.e2e.running import SECRET, Sale, until
from tests.mortal import dies_with_us

ROOT = Path(__file__).parents[2]
SPECIFICATION = Path(check_jsonschema.__file__).parent / "builtin_schemas/vendor/compose-spec.json"
SHAPES = {
    "sqlite": ["compose.yaml"],
    "postgres": ["compose.postgres.yaml"],
    "kafka": ["compose.postgres.yaml", "compose.kafka.yaml"],
}
CONFIG = 'version: 1\nsources: {shop: {kind: shopify, secrets: ["env:SHOPIFY_SECRET"]}}\n'
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = re.compile(r"storecue:\d+\.\d+\.\d+")


def merged(low: Any, high: Any) -> Any:
    """Two files as `docker compose -f low -f high` puts them together, as far as mappings go."""
    if not isinstance(low, dict) or not isinstance(high, dict):
        return high
    return {
        key: merged(low[key], high[key]) if {key} <= low.keys() & high.keys() else {**low, **high}[key]
        for key in {**low, **high}
    }


def project(files: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in files:
        found = merged(found, yaml.safe_load((ROOT / name).read_text()))
    return found


def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in services.items() if OURS.fullmatch(one["image"])}


@pytest.mark.parametrize("file", sorted({file for files in SHAPES.values() for file in files}))
def test_the_file_is_what_compose_knows(file: str) -> None:
    specification = jsonschema.Draft202012Validator(json.loads(SPECIFICATION.read_text()))
    text = (ROOT / file).read_text()
    specification.validate(yaml.safe_load(text))
    wrong = text.replace("restart:", "restarts:", 1)
    assert list(specification.iter_errors(yaml.safe_load(wrong)))  # it does look
    assert not re.search(r"(SECRET|TOKEN|KEY|PASSWORD)\w*: *\S|pk_[0-9a-z]{8}|whsec_|shpat_", text)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_service_can_do_more_than_it_must(shape: str) -> None:
    found = project(SHAPES[shape])
    for name, one in found["services"].items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert name in ours(found["services"]) or one["user"] not in ("root", "0"), name
        assert one.get("read_only") or name == "kafka", name
        assert int(one["stop_grace_period"].removesuffix("s")) > 10, name
        assert one["logging"]["options"]["max-size"], name
        assert name == "setup" or (one["restart"] == "unless-stopped" and one["deploy"]["resources"]["limits"]), name
        volumes = [volume.split(":")[0] for volume in one["volumes"]]
        assert {volume for volume in volumes if not volume.startswith(".")} <= set(found["volumes"]), name
        for port in one.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is for the reverse proxy alone"
        for needed, how in one.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert found["services"][needed]["healthcheck"]["test"][0] == "CMD", needed


def of_image(instruction: str) -> list[str]:
    """What the Dockerfile says after an instruction, each time it is there."""
    return re.findall(rf"^{instruction} (.*)", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


class Composed:
    """The services of StoreCue of one shape as processes of this machine, made of what the image is made of. Everything
    else is the tests' own."""

    def __init__(self, folder: Path, shape: str, place: Place) -> None:
        self.services = project(SHAPES[shape])["services"]
        self.place = place
        self.running: list[psutil.Popen] = []
        self._folder = folder
        (folder / "storecue.yaml").write_text(CONFIG)
        for source in {source for line in of_image("COPY") for source in line.split()[:-1]}:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
            copy(ROOT / source, folder / source)  # type: ignore[operator]
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        [self._check] = [json.loads(line.partition("CMD ")[2]) for line in of_image("HEALTHCHECK")]

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)

    def start(self, name: str) -> psutil.Popen:
        assert of_image("ENTRYPOINT") == ['["storecue"]']
        command = self.services[name].get("command") or json.loads(of_image("CMD")[-1])
        with (self._folder / "log").open("ab") as log:
            process = psutil.Popen(
                [sys.executable, "-m", "connector", *(part.replace("/etc/storecue/", "") for part in command)],
                cwd=self._folder,
                env=self._surroundings(name),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_us(),
            )
        self.running.append(process)
        return process

    def healthy(self, name: str) -> bool:
        assert "healthcheck" not in self.services[name]  # it is the image's
        environ = self._surroundings(name)
        return subprocess.run([sys.executable, *self._check[1:]], env=environ, capture_output=True).returncode == 0

    def said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-3000:]

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def _surroundings(self, name: str) -> dict[str, str]:
        """The image's and the service's variables; servers that are services here are the tests' own instead."""
        told = dict(pair.split("=", 1) for line in of_image("ENV") for pair in shlex.split(line))
        told |= self.services[name].get("environment", {})
        for variable, instead in self.place.environ.items():
            host = urlsplit(told[variable]).hostname or told[variable].partition(":")[0]
            assert host in self.services
            told[variable] = instead
        bare = {name: value for name, value in os.environ.items() if not re.match("STORECUE_|KAFKA_|DATABASE_", name)}
        told |= {"STORECUE_DATA": str(self._folder / "data"), "STORECUE_PORT": str(self.port)}
        told |= {"STORECUE_HOST": "127.0.0.1", "SHOPIFY_SECRET": SECRET, "PYTHONDONTWRITEBYTECODE": "1"}
        return bare | told


@pytest.fixture(params=SHAPES)
def composed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Composed]:
    place = LOGS[request.param]()
    made = Composed(tmp_path, request.param, place)
    yield made
    made.close()
    place.close()


def test_the_commands_take_a_delivery_work_it_off_and_stop(composed: Composed) -> None:
    services = ours(composed.services)
    once = [name for name, one in services.items() if "restart" not in one]
    for name in once:
        assert composed.start(name).wait(60) == 0, composed.said()
    [listening] = [name for name, one in services.items() if one.get("ports")]
    for name, one in services.items():
        for _ in range(one["deploy"].get("replicas", 1) if name not in once else 0):
            composed.start(name)
    lasting = composed.running[len(once) :]
    until(lambda: composed.healthy(listening), 30, composed.said())
    assert json.loads(composed.get("/readyz"))["status"] == "ok"
    body = encode(Sale(1, 7, 4200).body(1_700_000_000_000))
    headers = {
        "Content-Type": "application/json",
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Hmac-Sha256": sign(body, SECRET),
        "X-Shopify-Webhook-Id": "one",
    }
    sent = urllib.request.Request(f"http://127.0.0.1:{composed.port}/webhooks/shopify/shop", body, headers)
    with urllib.request.urlopen(sent, timeout=10) as answer:
        assert answer.status == 200
    processed = 'storecue_deliveries_processed_total{source="shop",topic="orders/create"} 1.0'
    until(lambda: processed in composed.get("/metrics"), 30, "the delivery is worked off")
    told = composed.get("/metrics")
    assert "storecue_lag 0.0\n" in told and "storecue_database_known 1.0\n" in told
    assert re.search(r'storecue_partition_lag\{part="\d+"\} 0.0', told)
    assert re.search(r'storecue_database_bytes\{database="state"\} [1-9]', told)
    log = "topic storecue.deliveries of " if "KAFKA_BOOTSTRAP" in composed.place.environ else 'database"'
    assert f'storecue_log_known{{log="{log}' in told
    workers = services["worker"]["deploy"]["replicas"] if "worker" in services else 1
    alive = f'storecue_processes{{kind="worker"}} {workers}.0'
    until(lambda: alive in composed.get("/metrics"), 10, "every worker is seen")
    assert all(process.is_running() for process in lasting), composed.said()
    began = time.monotonic()
    for process in lasting:
        process.send_signal(signal.Signals[of_image("STOPSIGNAL")[0]])
    assert [process.wait(30) for process in lasting] == [0] * len(lasting), composed.said()
    assert time.monotonic() - began < 10
