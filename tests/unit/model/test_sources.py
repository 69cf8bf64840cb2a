"""Public sets by name: found in what was fetched, and refused in one line when they cannot be."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
from kagglehub.exceptions import BackendError, KaggleApiHTTPError

from model import data, evaluate, sources, train
from tests.unit.model.tiny import write_set

PAEDIATRIC = "kaggle:paultimothymooney/chest-xray-pneumonia"
CHECKOUT = Path(__file__).parents[3]


def as_packed_by_its_owner(root: Path) -> Path:
    """Lay out folders as the public paediatric set does: a second copy inside, macOS's leavings."""
    for copy in ("chest_xray", "chest_xray/chest_xray"):
        for split in ("train", "val", "test"):
            for label in ("NORMAL", "PNEUMONIA"):
                (root / copy / split / label).mkdir(parents=True)
    leavings = root / "chest_xray" / "__MACOSX" / "chest_xray" / "train" / "NORMAL"
    leavings.mkdir(parents=True)
    (leavings / "._IM-0115-0001.jpeg").write_bytes(b"\0\5\26\7")
    return root / "chest_xray"


def test_a_folder_is_taken_as_it_is_and_nothing_is_fetched(tmp_path):
    def never(handle: str) -> str:
        raise AssertionError(handle)

    assert sources.folder(str(tmp_path), never) == tmp_path


def test_the_handle_is_what_follows_the_colon_and_the_outer_copy_is_taken(tmp_path):
    asked: list[str] = []

    def download(handle: str) -> str:
        asked.append(handle)
        return str(tmp_path)

    expected = as_packed_by_its_owner(tmp_path)
    assert sources.folder(PAEDIATRIC, download) == expected
    assert asked == ["paultimothymooney/chest-xray-pneumonia"]


def test_what_macos_left_is_not_taken_for_the_set_however_near_it_lies(tmp_path):
    (tmp_path / "__MACOSX" / "train").mkdir(parents=True)
    (tmp_path / ".cache" / "train").mkdir(parents=True)
    (tmp_path / "a" / "b" / "normal").mkdir(parents=True)
    assert sources.labelled_folder(tmp_path) == tmp_path / "a" / "b"


def test_a_set_without_labelled_images_is_one_line(tmp_path):
    (tmp_path / "tables").mkdir()
    with pytest.raises(data.DataError, match="neither train/ nor label folders"):
        sources.folder(PAEDIATRIC, lambda _: str(tmp_path))


def answered(status: int) -> KaggleApiHTTPError:
    response = requests.Response()
    response.status_code = status
    return KaggleApiHTTPError("a page\n\nof text", response)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (answered(404), "no such data set"),
        (answered(403), "not open to you"),
        (answered(500), "HTTP status 500"),
        (requests.ConnectionError("long"), "check the network"),
        (requests.ReadTimeout("long"), "check the network"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (BackendError("POST failed\nwith: {}"), "POST failed"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_what_stands_in_the_way_is_told_in_one_line(error, told):
    def download(_handle: str) -> str:
        raise error

    with pytest.raises(data.DataError, match=told) as raised:
        sources.folder(PAEDIATRIC, download)
    assert str(raised.value).startswith(PAEDIATRIC)
    assert len(str(raised.value).splitlines()) == 1


def test_a_handle_without_an_owner_is_told_the_form(tmp_path):
    with pytest.raises(data.DataError, match="the form is kaggle:<owner>/<dataset>"):
        sources.folder("kaggle:chest-xray-pneumonia")


def test_a_missing_kagglehub_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(data.DataError, match=r"pip install 'cxr-worker\[kaggle\]'"):
        sources.folder(PAEDIATRIC)


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_without_a_network_both_programs_say_so_in_one_line(program, tmp_path):
    # The true kagglehub, with a proxy at a port where nothing listens: no test reaches Kaggle.
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "KAGGLEHUB_CACHE": str(tmp_path / "cache")}
    model = ["--model", str(tmp_path)] if program == "evaluate" else []
    done = subprocess.run(
        [
            sys.executable,
            CHECKOUT / "model" / f"{program}.py",
            *["--data", PAEDIATRIC, "--out", tmp_path / "out", *model],
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "HOME": str(tmp_path), **nowhere},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {PAEDIATRIC} cannot be fetched: Kaggle")
    assert "Traceback" not in done.stderr


class KaggleProxy(BaseHTTPRequestHandler):
    """Answer as the proxy of a Kaggle notebook does: where the set is mounted."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mounted = {"mountSlug": f"datasets/{asked['datasetRef']['DatasetSlug']}"}
        body = json.dumps({"wasSuccessful": True, "result": mounted}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def kaggle_proxy() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), KaggleProxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_on_kaggle_itself_the_mounted_set_is_found(tmp_path, kaggle_proxy, monkeypatch):
    for key, value in {
        "KAGGLE_KERNEL_RUN_TYPE": "Interactive",
        "KAGGLE_DATA_PROXY_URL": kaggle_proxy,
        "KAGGLE_DATA_PROXY_TOKEN": "a",
        "KAGGLE_USER_SECRETS_TOKEN": "b",
        "KAGGLE_CACHE_MOUNT_FOLDER": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(key, value)
    expected = as_packed_by_its_owner(tmp_path / "datasets" / "chest-xray-pneumonia")
    assert sources.folder(PAEDIATRIC) == expected


def test_train_and_evaluate_read_the_fetched_folder(tmp_path, monkeypatch, capsys):
    for split in ("train", "test"):
        write_set(tmp_path / "fetched" / "set" / split, 4)
    monkeypatch.setattr(sources, "_kagglehub", lambda: lambda _: str(tmp_path / "fetched"))
    named = ["--data", "kaggle:a/b"]
    refused = ["--out", str(tmp_path / "out"), "--adults", str(tmp_path / "nowhere")]
    assert train.main([*named, *refused]) == 2
    assert "training:   10 images" in capsys.readouterr().out
    model = ["--model", str(tmp_path / "no model"), "--out", str(tmp_path / "out")]
    assert evaluate.main([*named, *model]) == 2
    assert "no model" in capsys.readouterr().err
