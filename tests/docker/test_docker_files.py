"""The files under docker/: Docker does not run here, so what they say is read, and their commands run plainly."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from backend.settings import BackendSettings
from sam3_core.settings import variables_of
from sam3_prelabel.demo.process import free_port

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
SERVER, FUNCTIONS = DOCKER / "server.Dockerfile", DOCKER / "functions.Dockerfile"
BIN = Path(sys.executable).parent
EXAMPLE = dict(
    line.split("=", 1) for line in (DOCKER / ".env.example").read_text().splitlines() if re.match(r"[A-Z]", line)
)
FILLED = EXAMPLE | {"LABEL_STUDIO_PASSWORD": "secret", "IMAGES_FOLDER": "/srv/images"}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def steps(path: Path) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with what they say, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def of(path: Path, word: str) -> list[str]:
    return [rest for step, rest in steps(path) if step == word]


def filled(value: Any, env: dict[str, str] = FILLED) -> Any:
    """The compose file as Compose reads it, with variables in the place of ${...}."""
    if isinstance(value, dict):
        return {key: filled(one, env) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, env) for one in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        name, kind, other = match.groups()
        if kind == "?":
            assert env.get(name), f"{name} has to be set"
        return env.get(name) or (other or "" if kind == "-" else "")

    return VARIABLE.sub(put, value)


COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = filled(COMPOSE["services"])
BACKENDS = ("sam3-gpu", "sam3-cpu")


# ---- Dockerfiles ----


@pytest.mark.parametrize("path", [SERVER, FUNCTIONS], ids=lambda path: path.name)
def test_the_base_is_pinned_and_all_that_is_copied_is_there(path: Path) -> None:
    bases = [base.split()[0] for base in of(path, "FROM")]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases[0])
    assert set(bases[1:]) <= {"packages"}
    for copy in of(path, "COPY"):
        *sources, target = copy.split()
        assert all((ROOT / source).exists() for source in sources)
        assert target.endswith("/") or len(sources) == 1
        assert not any(ignored(source) for source in sources), "the build would not find it"


def ignored(name: str) -> bool:
    """As .dockerignore says: the last line that matches a path decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(name.split("/")[0], line.removeprefix("!")):
            out = not line.startswith("!")
    return out


def test_nothing_else_goes_to_the_build() -> None:
    assert all(ignored(name) for name in (".git", ".venv", "tests", "docker", "runs", ".env", "demo-output"))
    assert not ignored("sam3_core")


@pytest.mark.parametrize("path", [SERVER, FUNCTIONS], ids=lambda path: path.name)
def test_what_is_installed_exists_and_the_pins_are_used(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installs = [run for run in of(path, "RUN") if "pip install" in run]
    assert installs[0].startswith("python -m pip install --constraint constraints.txt ")
    for run in installs:
        target = shlex.split(run)[-1]
        wanted = re.fullmatch(r"\.(?:\[(.*)\])?", target)
        assert wanted, target
        assert set((wanted[1] or "").split(",")) - {""} <= extras.keys()
    assert ("local" in installs[0]) is (path == SERVER), "the thin image has no torch"


def test_pip_takes_these_commands() -> None:
    """pip's own parser; nothing is installed."""
    for path in (SERVER, FUNCTIONS):
        for run in (run for run in of(path, "RUN") if "pip install" in run):
            words = shlex.split(run)[1:]
            target = words.pop()
            command = [sys.executable, *words, "--no-deps", "--dry-run", "--quiet", "--no-build-isolation"]
            done = subprocess.run(
                [*command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
            assert target.startswith(".")


def test_the_server_is_nobody_special() -> None:
    (user,) = of(SERVER, "USER")
    number = user.partition(":")[0]
    assert int(number) > 1000
    made = next(run for run in of(SERVER, "RUN") if "useradd" in run)
    assert f"--uid {number}" in made
    assert f"install -d -o {number} -g {number} /data" in made
    words = [step for step, _ in steps(SERVER)]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert not [run for run in of(SERVER, "RUN")[of(SERVER, "RUN").index(made) + 1 :] if "pip" in run]
    env = " ".join(of(SERVER, "ENV"))
    assert "HF_HOME=/data/" in env
    assert of(SERVER, "VOLUME") == ["/data"]


def test_the_functions_are_built_on_these_images() -> None:
    for path in (ROOT / "cvat_nuclio").glob("*/function*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        gpu = path.name == "function-gpu.yaml"
        assert spec["build"]["baseImage"] == ("cvat.sam3.base.gpu" if gpu else "cvat.sam3.base")
        assert spec["runtime"] == "python:3.11"
    assert "-t cvat.sam3.base ." in FUNCTIONS.read_text()
    text = (ROOT / "docs/cvat.md").read_text()
    assert "docker build -f docker/functions.Dockerfile -t cvat.sam3.base ." in text
    assert "docker build -f docker/server.Dockerfile --target packages -t cvat.sam3.base.gpu ." in text


def test_the_thin_image_imports_the_handlers_without_the_extras() -> None:
    heavy = {"torch", "transformers", "flask", "label_studio_sdk", "cvat_sdk"}
    script = f"import cvat_nuclio.handlers, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- what runs in the container ----


def healthcheck() -> list[str]:
    (said,) = of(SERVER, "HEALTHCHECK")
    command: list[str] = json.loads(said.partition("CMD ")[2])
    return command


def test_the_entry_point_starts_and_the_health_check_tells_it(tmp_path: Path) -> None:
    """The image's own words, with another port; SIGTERM ends it with code 0."""
    entry, command = json.loads(of(SERVER, "ENTRYPOINT")[0]), json.loads(of(SERVER, "CMD")[0])
    exposed, port = of(SERVER, "EXPOSE")[0], str(free_port())
    words = [port if word == exposed else word for word in [*entry, *command]]
    check = [word.replace(f":{exposed}/", f":{port}/") for word in healthcheck()]
    assert port in words
    assert f":{port}/" in check[-1]
    env = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "SAM3_DEVICE": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    env |= {"SAM3_BASIC_AUTH_USER": "me", "SAM3_BASIC_AUTH_PASSWORD": "secret"}
    run = {"env": env, "capture_output": True, "timeout": 60, "check": False}
    assert subprocess.run(check, **run).returncode != 0  # type: ignore[call-overload]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, env=env, stdout=log, stderr=log) as server:
        try:
            session = requests.Session()
            session.mount("http://", HTTPAdapter(max_retries=Retry(connect=60, backoff_factor=0.5, backoff_max=1)))
            session.get(f"http://127.0.0.1:{port}/", timeout=60)
            done = subprocess.run(check, **run)  # type: ignore[call-overload]
            assert done.returncode == 0, done.stderr
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, (tmp_path / "log").read_text()
        finally:
            server.kill()


@pytest.mark.parametrize("name", BACKENDS)
def test_the_services_options_are_known(name: str) -> None:
    command = SERVICES[name].get("command", json.loads(of(SERVER, "CMD")[0]))
    assert command[0] == "serve"
    done = subprocess.run(
        [sys.executable, "-m", "sam3_prelabel", *command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for option in (word for word in command if word.startswith("--")):
        assert option in re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


# ---- compose ----


@pytest.mark.parametrize("name", BACKENDS)
def test_the_variables_start_a_server(name: str, tmp_path: Path) -> None:
    """Each is a setting of ours, and those of the example, filled in, can be read."""
    env: dict[str, Any] = SERVICES[name]["environment"]
    assert env.keys() <= variables_of(BackendSettings)
    assert all(isinstance(value, str) for value in env.values())
    given = {name: value.replace("/label-studio/files", str(tmp_path)) for name, value in env.items()}
    code = "import backend.settings as b, sam3_core.settings as c; print(c.load_settings(b.BackendSettings))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | given, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "facebook/sam3" in done.stdout


def test_names_ports_and_folders_agree() -> None:
    studio = SERVICES["label-studio"]
    assert studio["image"] == "heartexlabs/label-studio:1.23.2"
    assert "label-studio==1.23.2" in (ROOT / "constraints-label-studio.txt").read_text()
    port = of(SERVER, "EXPOSE")[0]
    files = "/srv/images:/label-studio/files:ro"
    assert files in studio["volumes"]
    assert studio["environment"]["LOCAL_FILES_DOCUMENT_ROOT"] == "/label-studio/files"
    assert ":8080/health" in studio["healthcheck"]["test"][-1]
    assert studio["ports"] == ["8080:8080"]
    for name in BACKENDS:
        service = SERVICES[name]
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert files in service["volumes"]
        assert "models:/data" in service["volumes"]
        assert service["environment"]["SAM3_LOCAL_FILES_ROOT"] == "/label-studio/files"
        assert service["environment"]["SAM3_LABEL_STUDIO_URL"] == "http://label-studio:8080"
        assert service["environment"]["SAM3_STORE"].startswith("/data/")
        assert service["depends_on"]["label-studio"]["condition"] == "service_healthy"
        assert service["networks"]["default"]["aliases"] == ["sam3"]
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == SERVER
        assert any(base.endswith(f"AS {service['build']['target']}") for base in of(SERVER, "FROM"))
        used = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith("/")}
        assert used <= COMPOSE["volumes"].keys()
        assert service["init"] is True


def test_label_studio_has_its_switches() -> None:
    env = SERVICES["label-studio"]["environment"]
    off = ("ML_BLOCK_LOCAL_IP", "SSRF_PROTECTION_ENABLED", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN")
    assert {env[name] for name in off} == {"false"}
    assert env["LABEL_STUDIO_HOST"] == "http://localhost:8080"
    assert all(isinstance(value, str) for value in env.values()), "yes and no would be true and false"


def test_a_gpu_by_default_and_a_profile_without() -> None:
    assert EXAMPLE["COMPOSE_PROFILES"] == "gpu"
    assert {name: SERVICES[name]["profiles"] for name in BACKENDS} == {"sam3-gpu": ["gpu"], "sam3-cpu": ["cpu"]}
    (device,) = SERVICES["sam3-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in SERVICES["sam3-cpu"]
    assert SERVICES["sam3-cpu"]["environment"]["SAM3_DEVICE"] == "cpu"


def test_the_example_has_every_variable_and_what_is_missing_stops() -> None:
    text = (DOCKER / "compose.yaml").read_text()
    used = {match[1] for match in VARIABLE.finditer(text)}
    assert used | {"COMPOSE_PROFILES"} == EXAMPLE.keys()
    with pytest.raises(AssertionError, match=r"LABEL_STUDIO_PASSWORD|IMAGES_FOLDER"):
        filled(COMPOSE["services"], EXAMPLE)
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_line_ends_are_linux() -> None:
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text()
    for path in (*DOCKER.iterdir(), ROOT / ".dockerignore"):
        assert b"\r" not in path.read_bytes(), path
