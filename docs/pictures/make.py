"""Makes the pictures of the README: `cxr-worker up` on real radiographs, seen by Chromium.

python docs/pictures/make.py

The radiographs are the adult chest and the limb of pydicom-data; with CXR_POPULATION=flag
the adult is assessed, which a site would not do.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

HERE = Path(__file__).parent
PORT, WEB_PORT = "11912", "18080"
STUDIES = {"A-1001": "RG1_UNCR.dcm", "A-1002": "RG3_UNCR.dcm", "A-1003": "RG1_UNCR.dcm"}
PATIENCE_S = 120.0


def main() -> None:
    """Make the pictures anew."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        env = {
            **os.environ, "CXR_HOME": name, "CXR_BIND": "127.0.0.1", "CXR_PORT": PORT,
            "CXR_WEB_PORT": WEB_PORT, "CXR_POPULATION": "flag", "CXR_HEATMAPS": "on",
        }  # fmt: skip
        with (home / "log").open("w") as log:
            up = subprocess.Popen(
                [sys.executable, "-m", "worker", "up"], env=env, stdout=log, stderr=log
            )
            try:
                link = _link(home / "log")
                _send(home / "studies", env)
                _look(link)
            finally:
                up.send_signal(signal.SIGINT)
                up.wait()


def _link(log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := re.search(r"http://\S+token=\S+", log.read_text()):
            return found[0]
        time.sleep(0.2)
    raise SystemExit(log.read_text())


def _send(folder: Path, env: dict[str, str]) -> None:
    folder.mkdir()
    for accession, name in STUDIES.items():
        ds = dcmread(str(get_testdata_file(name)))
        ds.AccessionNumber, ds.PatientID = accession, f"P-{accession[-1]}"
        ds.StudyInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / f"{accession}.dcm")
    to = f"CXRWORKER@127.0.0.1:{PORT}"
    subprocess.run(
        [sys.executable, "-m", "worker", "send", str(folder), "--to", to], env=env, check=True
    )


def _look(link: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1100, "height": 680})
        page.goto(link)
        page.locator(".worklist tbody tr").nth(len(STUDIES) - 1).wait_for()
        page.wait_for_function(
            "n => document.querySelector('.worklist').innerText.split('reported').length > n",
            arg=len(STUDIES),
        )
        _keep(page, "worklist", {"x": 0, "y": 0, "width": 1100, "height": 480})
        page.locator(".worklist .present a, .worklist .undetermined a").first.click()
        page.locator(".heat").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.evaluate("() => document.querySelector('section.image').scrollIntoView()")
        _keep(page, "study")
        browser.close()


def _keep(page: Page, name: str, clip: dict[str, int] | None = None) -> None:
    path = HERE / f"{name}.png"
    page.screenshot(path=path, clip=clip)  # type: ignore[arg-type]
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
