"""A real Label Studio on SQLite, from its own virtual environment, in a folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from sam3_prelabel.demo.process import (
    HOST,
    ServerFailed,
    ServerProcess,
    Tick,
    answers,
    direct_session,
    free_port,
    is_free,
    no_tick,
)

VENV_VARIABLE = "LABEL_STUDIO_VENV"
"""Where Label Studio is installed, for those who do not have it in `.venv-label-studio`."""

_DEFAULT_VENV = Path(".venv-label-studio")
_DATABASE = "label_studio.sqlite3"
_START = 240.0  # seconds; a slow disk takes a minute
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")


class LabelStudioServer:
    """Label Studio on 127.0.0.1, with one user, as a context manager.

    folder: its database, uploads and log; made anew, so that every start is the same.
    venv: its virtual environment; default `$LABEL_STUDIO_VENV`, else `.venv-label-studio` here.
    port: default a free one.
    documents: a folder it may serve as local files; none by default.

    Entering takes seconds, the very first time a minute: the migrated, empty database is kept in the virtual
    environment and copied. Raises ServerFailed when Label Studio is not installed, the port is taken or it
    does not start.
    """

    email = "demo@example.com"

    def __init__(
        self,
        folder: Path,
        *,
        venv: Path | None = None,
        port: int | None = None,
        documents: Path | None = None,
        tick: Tick = no_tick,
    ) -> None:
        self.folder = folder.absolute()
        self.venv = (venv or Path(os.environ.get(VENV_VARIABLE) or _DEFAULT_VENV)).absolute()
        self.port = port or free_port()
        self.password = f"demo-{secrets.token_hex(4)}"
        self.log = self.folder / "label-studio.log"
        self._documents = documents
        self._tick = tick
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        if not is_free(self.port):
            raise ServerFailed(f"port {self.port} for Label Studio is taken: end what listens there or name another")
        template = _migrated_database(self.venv, self._tick)
        _empty(self.folder)
        shutil.copyfile(template, self.folder / _DATABASE)
        program = str(_program(self.venv))
        command = [program, "start", "--no-browser", "--internal-host", HOST, "-p", str(self.port)]
        process = ServerProcess("Label Studio", command, env=self._environment(), log=self.log)
        with ExitStack() as stack:
            stack.enter_context(process)
            process.wait_until(lambda: answers(f"{self.url}/health"), timeout=_START, tick=self._tick)
            stack.pop_all()
        self._process = process
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.stop()

    def check(self) -> None:
        """Raises ServerFailed when it has ended by itself."""
        if self._process is not None:
            self._process.check()

    def personal_access_token(self) -> str:
        """A new token for the user, made as the browser does. Label Studio allows one: ask once."""
        with self.login() as session:
            answer = session.post(f"{self.url}/api/token/", timeout=30)
        if not answer.ok:
            raise ServerFailed(f"Label Studio gave no access token: {answer.status_code} {answer.text[:200]}")
        return str(answer.json()["token"])

    def login(self) -> requests.Session:
        """A session logged in as the user, by the login form."""
        session = direct_session()
        page = f"{self.url}/user/login/"
        session.get(page, timeout=30).raise_for_status()
        form = {
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
            "email": self.email,
            "password": self.password,
        }
        session.post(page, data=form, timeout=30).raise_for_status()
        if "sessionid" not in session.cookies:
            raise ServerFailed(f"Label Studio on port {self.port} does not know the demo's user: is it another one?")
        session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
        return session

    def _environment(self) -> dict[str, str]:
        own = {
            "LABEL_STUDIO_HOST": self.url,
            "LABEL_STUDIO_USERNAME": self.email,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            # Both, or Label Studio refuses a backend (and its webhook) on this machine.
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
        }
        if self._documents is not None:
            own |= {
                "LOCAL_FILES_SERVING_ENABLED": "true",
                "LOCAL_FILES_DOCUMENT_ROOT": str(self._documents.absolute()),
            }
        return _environment(self.folder) | own


def _environment(folder: Path) -> dict[str, str]:
    """What every run of Label Studio gets.

    It reads variables as plain as HOST, PORT or DEBUG, so little of ours is handed on.
    """
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "DATABASE_NAME": str(folder / _DATABASE),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def _program(venv: Path) -> Path:
    program = venv / "bin" / "label-studio"
    if not program.exists():
        raise ServerFailed(
            f"Label Studio is not installed in {venv}: run `make label-studio`, or set {VENV_VARIABLE} to its venv"
        )
    return program


def _migrated_database(venv: Path, tick: Tick) -> Path:
    """An empty database with all migrations applied, made once per installed version of Label Studio.

    `label-studio version` migrates, makes no user, and ends.
    """
    program = _program(venv)
    installed = next(venv.glob("lib/python*/site-packages/label_studio-*.dist-info"), venv).name
    template = venv / f"{installed.removesuffix('.dist-info')}.sqlite3"
    if template.exists():
        return template
    with tempfile.TemporaryDirectory(dir=venv, prefix="migrating-") as name:
        folder = Path(name)
        env = _environment(folder)
        with ServerProcess("label-studio version", [program, "version"], env=env, log=venv / "migrate.log") as run:
            run.wait_exit(timeout=_START, tick=tick)
        (folder / _DATABASE).replace(template)
    return template


def _empty(folder: Path) -> None:
    """Make the folder new. Raises ServerFailed rather than delete what an earlier start did not make."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _DATABASE).exists():
            raise ServerFailed(f"{folder} holds other files: name a folder for Label Studio that is new or empty")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
