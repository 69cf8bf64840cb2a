"""The worklist of a real `cxr-worker up`, asked by a client over HTTP."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import oidc
from tests.certificates import Authority
from tests.e2e.programs import START_S, free_port, listens, wait_until
from tests.integration.house import CXR_WORKER, House

pytestmark = pytest.mark.timeout(900)
PASSWORD = "quite a long password"


@pytest.fixture
def house(model_setting: dict[str, str], tmp_path: Path) -> Iterator[House]:
    house = House(
        tmp_path / "home", tmp_path / "logs", CXR_WEB_PORT=str(free_port()), **model_setting
    )
    yield house
    house.kill_all()


def test_up_prints_a_link_that_lets_the_first_one_in_and_shows_what_arrives(house: House) -> None:
    house.start_up()
    wait_until(lambda: "token=" in house.text(), START_S, "the link")
    link = re.search(r"http://\S+token=\S+", house.text())
    assert link
    with httpx.Client(follow_redirects=True) as client:
        assert "local (admin)" in client.get(link[0]).text
        address = link[0].partition("sign-in")[0]
        study = house.send_study(1)
        wait_until(lambda: study in client.get(address).text, START_S, "the study's line")
        wait_until(
            lambda: "reported, revision 1" in client.get(f"{address}studies/{study}").text,
            START_S, "its report",
        )  # fmt: skip
        page = client.get(f"{address}studies/{study}").text
        picture = re.search(r'src="(/studies/[^"]+picture.png)"', page)
        assert picture
        assert client.get(address.rstrip("/") + picture[1]).headers["content-type"] == "image/png"
        assert study in (house.home / "audit" / "audit.log").read_text()
    assert house.stop("up") == 0
    assert house.left_over() == []


def test_a_port_that_is_taken_is_said_before_anything_starts(house: House) -> None:
    with socket.create_server(("127.0.0.1", int(house.env["CXR_WEB_PORT"]))):
        process = house.start("up")
        assert process.wait(START_S) == 1
    assert "CXR_WEB_PORT" in house.text()


def test_others_are_let_in_by_tls_alone_and_only_where_somebody_can_sign_in(
    house: House, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    files = authority.issue("web", hosts="IP:127.0.0.1")
    house.env |= {
        "CXR_WEB_BIND": "0.0.0.0", "CXR_WEB_HOSTS": "127.0.0.1",
        "CXR_WEB_CERTIFICATE": str(files.certificate), "CXR_WEB_KEY": str(files.key),
    }  # fmt: skip
    assert house.start("db", "upgrade").wait(START_S) == 0
    assert house.start("web").wait(START_S) == 1
    assert "there is no administrator" in house.text()
    add = [*CXR_WORKER, "user", "add", "anna", "--role", "admin", "--password-stdin"]
    subprocess.run(add, env=house.env, input=f"{PASSWORD}\n", text=True, check=True)
    house.start("web", name="again")
    port = int(house.env["CXR_WEB_PORT"])
    wait_until(lambda: listens(port), START_S, "the pages")
    trusted = ssl.create_default_context(cafile=str(files.authority))
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusted) as client:
        assert client.get("/").status_code == 303
        answer = client.post("/sign-in", data={"name": "Anna", "password": PASSWORD})
        assert answer.status_code == 303
        assert "anna (admin)" in client.get("/").text
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert house.stop("again") == 0


def test_with_a_provider_others_are_let_in_without_a_local_administrator(
    house: House, tmp_path: Path
) -> None:
    files = Authority(tmp_path / "authority").issue("web", hosts="IP:127.0.0.1")
    port = int(house.env["CXR_WEB_PORT"])
    ours = f"https://127.0.0.1:{port}"
    (tmp_path / "secret").write_text(oidc.SECRET)
    with oidc.running() as provider:
        house.env |= {
            "CXR_WEB_BIND": "0.0.0.0", "CXR_WEB_HOSTS": "127.0.0.1", "CXR_WEB_URL": ours,
            "CXR_WEB_CERTIFICATE": str(files.certificate), "CXR_WEB_KEY": str(files.key),
            "CXR_OIDC_ISSUER": provider.issuer, "CXR_OIDC_CLIENT_ID": oidc.CLIENT,
            "CXR_OIDC_ROLES": "groups:radiology=reader",
            "CXR_OIDC_CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        }  # fmt: skip
        assert house.start("db", "upgrade").wait(START_S) == 0
        # Of a start on this machine alone, before there was a provider.
        token = Path(house.env["CXR_HOME"]) / "web" / "first-token"
        token.parent.mkdir(parents=True, exist_ok=True)
        token.write_text("of-yesterday")
        house.start("web")
        wait_until(lambda: listens(port), START_S, "the pages")
        trusted = ssl.create_default_context(cafile=str(files.authority))
        with httpx.Client(base_url=ours, verify=trusted, trust_env=False) as client:
            client.get("/sign-in", params={"token": "of-yesterday"})
            assert client.get("/").status_code != 200
            back = oidc.visit(client.get("/sign-in/oidc").headers["location"])
            assert back.startswith(f"{ours}/sign-in/oidc/back?")
            assert client.get(back).status_code == 200
            assert "anna (reader)" in client.get("/").text
        code = httpx.URL(back).params["code"]
        assert code not in house.text()
        assert house.stop("web") == 0
