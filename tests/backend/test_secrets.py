"""An audit: requests of every kind with marked secrets through a real server, successful ones and failing ones; then
every log line, answer and page is searched for the marks."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from label_studio_stand_in import label_studio, make_jwt
from request_bodies import CONFIG, data_url, keypoint, predict_body
from scene_segmenter import SceneSegmenter
from test_gunicorn import server

from sam3_core.demo.scenes import render_scene

# Unlikely by chance, and of the form that each has.
SECRETS = {
    "basic password": "mark-basic-password-7c1d",
    "api token": "mark-api-token-52ef",
    "personal token": make_jwt("refresh", lives=1e6),
    "hub token": "hf_markhubtoken93ab",
    "core password": "mark-core-password-0d4e",
    "core token": "mark-core-token-8b7a",
    "token of setup": "3a9f3a9f3a9f3a9f3a9f3a9f3a9f3a9f3a9f3a9f",
    "wrong password": "mark-wrong-password-11aa",
    "wrong token": "mark-wrong-token-22bb",
    "signature": "mark-presigned-signature-33cc",
    "login in a link": "mark-link-password-44dd",
    "cookie": "mark-cookie-55ee",
    "image data": base64.b64encode(b"mark-image-data-66ff" * 3).decode(),
    "login of params": "mark-project-password-77aa",
}

PROGRAM = """
import sys
import backend.server
from backend.settings import BackendSettings
from scene_segmenter import SceneSegmenter
from sam3_core.demo.scenes import render_scene
from sam3_core.settings import load_settings

def make(settings):
    oracle = SceneSegmenter()
    oracle.add(render_scene(9, objects=(2, 4), size=(160, 120)))
    return oracle

backend.server.make_segmenter = make
backend.server.run(load_settings(BackendSettings), host="127.0.0.1", port=int(sys.argv[1]), threads=4)
"""


def variables(label_studio_url: str) -> dict[str, str]:
    return {
        "SAM3_BASIC_AUTH_USER": "annotator",
        "SAM3_BASIC_AUTH_PASSWORD": SECRETS["basic password"],
        "SAM3_API_TOKEN": SECRETS["api token"],
        "SAM3_LABEL_STUDIO_URL": label_studio_url,
        "SAM3_LABEL_STUDIO_API_KEY": SECRETS["personal token"],
        "SAM3_HUB_TOKEN": SECRETS["hub token"],
        "SAM3_CORE_USER": "core",
        "SAM3_CORE_PASSWORD": SECRETS["core password"],
        "SAM3_CORE_TOKEN": SECRETS["core token"],
        "SAM3_FETCH_SECONDS": "2",
        "SAM3_ALLOWED_HOSTS": "127.0.0.1",
    }


def addresses(url: str, picture: str) -> list[str]:
    """Images that are there, that are not, and that nobody should ask for; with a secret where there can be one."""
    host, signed = url.removeprefix("http://"), f"X-Amz-Signature={SECRETS['signature']}"
    login = f"user:{SECRETS['login in a link']}@"
    return [
        picture,
        f"{url}/public/a.png?{signed}",
        f"http://{login}{host}/public/a.png?{signed}",
        f"{url}/public/missing.png?{signed}#x",
        f"{url}/public/page?{signed}",
        f"{url}/public/hop?{signed}",
        f"{url}/public/away?{signed}",
        f"{url}/public/broken?{signed}",
        "s3://bucket/key.png",
        "s3://bucket/missing.png",
        "/data/upload/1/a.png",
        f"/data/upload/1/missing.png?token={SECRETS['signature']}",
        f"http://10.0.0.1/a.png?{signed}",
        f"http://{login}127.0.0.1:9/a.png?{signed}",
        f"ftp://{login}host/a.png?{signed}",
        f"http://{login}[::1/a.png?{signed}",
        f"https://{login}{host}/a.png?{signed}",
        f"data:image/png;base64,{SECRETS['image data']}",
        f"data:image/png;base64,%%%{SECRETS['image data']}",
        f"data:{SECRETS['image data']}",
    ]


def ask(url: str, label_studio_url: str, picture: str) -> list[requests.Response]:
    """Everything that a client can do, with and without the right login."""
    answers: list[requests.Response] = []
    logins: list[Any] = [
        {"auth": ("annotator", SECRETS["basic password"])},
        {"headers": {"Authorization": f"Bearer {SECRETS['api token']}"}},
        {"auth": ("annotator", SECRETS["wrong password"])},
        {"headers": {"Authorization": f"Bearer {SECRETS['wrong token']}"}},
        {
            "headers": {
                "Authorization": f"Token {SECRETS['token of setup']}",
                "Cookie": f"session={SECRETS['cookie']}",
            }
        },
    ]
    setup = {"project": "1.5", "schema": CONFIG, "hostname": label_studio_url}
    setup |= {"access_token": SECRETS["token of setup"]}
    links = addresses(label_studio_url, picture)
    tasks = [{"id": number, "data": {"image": address}} for number, address in enumerate(links)]
    predict = predict_body(tasks)
    predict["params"] |= {"login": "me", "password": SECRETS["login of params"]}
    click = predict_body(tasks[:1], CONFIG, {"result": [keypoint(30, 40)]})
    strange = predict | {"tasks": [{"id": {"password": SECRETS["login of params"]}, "data": SECRETS["signature"]}]}
    for login in logins:
        for body, path in ((setup, "setup"), (predict, "predict"), (click, "predict"), (strange, "predict")):
            answers.append(requests.post(f"{url}/{path}", json=body, timeout=60, **login))
        for task in tasks if login is logins[0] else []:
            answers.append(requests.post(f"{url}/predict", json=predict_body([task]), timeout=60, **login))
        wrong = setup | {"access_token": [SECRETS["token of setup"]]}
        answers.append(requests.post(f"{url}/setup", json=wrong, timeout=60, **login))
        cut = f'{{"x": "{SECRETS["signature"]}'
        answers.append(requests.post(f"{url}/predict", data=cut, timeout=60, **login))
        event = {"action": "ANNOTATION_CREATED", "project": {"id": 1, "label_config": CONFIG}}
        event |= {"annotation": {"result": [7]}}
        answers.append(requests.post(f"{url}/webhook?token={SECRETS['signature']}", json=event, timeout=60, **login))
        file = base64.b64decode(SECRETS["image data"])
        parts = {"request": (None, '{"concepts": [{"phrases": ["circle"]}]}'), "image": ("a", file)}
        answers.append(requests.post(f"{url}/v1/find", files=parts, timeout=60, **login))
        for path in ("", "health", "ready", "metrics", "status", "status.json", "versions", "v1/info", "nothing"):
            answers.append(requests.get(f"{url}/{path}?token={SECRETS['signature']}", timeout=60, **login))
    return answers


def found(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text or secret[4:-4] in text]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_shown_anywhere(tmp_path: Path, form: str) -> None:
    scene = render_scene(9, objects=(2, 4), size=(160, 120))
    data = SceneSegmenter().add(scene)
    log = tmp_path / "log"
    with label_studio() as studio:
        studio.personal = SECRETS["personal token"]
        signed = f"X-Amz-Signature={SECRETS['signature']}"
        studio.files = {f"/public/a.png?{signed}": data, "/data/upload/1/a.png": data, "s3://bucket/key.png": data}
        studio.presigned["s3://bucket/missing.png"] = f"{studio.url}/public/gone.png?{signed}"
        page = {"Content-Type": "text/html"}
        studio.routes["/public/page"] = lambda _: (200, page, b"<html>")
        studio.routes["/public/hop"] = lambda _: (302, {"Location": f"{studio.url}/public/gone.png?{signed}"}, b"")
        studio.routes["/public/away"] = lambda _: (302, {"Location": f"http://10.0.0.1/a.png?{signed}"}, b"")
        studio.routes["/public/broken"] = lambda _: (200, {"Content-Length": "1000"}, b"x")
        with server(PROGRAM, log, SAM3_LOG=form, **variables(studio.url)) as (url, _):
            answers = ask(url, studio.url, data_url(data))
            # Not gone by accident: the right logins got answers, and the pictures were found.
            assert {answer.status_code for answer in answers} >= {200, 400, 401, 404}
            assert any(answer.json()["results"][1]["result"] for answer in answers if '"results"' in answer.text)
            assert studio.refreshes() >= 1
        text = log.read_text()
    assert len(text.splitlines()) > 100
    assert found(text) == []
    assert "Traceback" not in text
    for answer in answers:
        shown = f"{answer.headers} {answer.text}"
        assert found(shown) == [], f"{answer.request.method} {answer.request.path_url[:60]}: {answer.text[:300]}"


def test_neither_the_list_of_settings_nor_a_refused_start_shows_one() -> None:
    env = (
        os.environ | variables("http://127.0.0.1:9") | {"SAM3_CORE_URL": f"http://u:{SECRETS['core password']}@gpu:9"}
    )
    address = f"ftp://u:{SECRETS['core password']}@host"
    for bad in ({"SAM3_API_TOKEN": SECRETS["api token"] + " x"}, {"SAM3_LABEL_STUDIO_URL": address}):
        for command in ("settings", "serve"):
            done = subprocess.run(
                [sys.executable, "-m", "sam3_prelabel", command],
                env=env | bad,
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode != 0) == (command == "serve"), done.stderr
            assert found(done.stdout + done.stderr) == []
