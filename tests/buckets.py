"""A store that speaks S3 over HTTP on loopback, one that only fails, and one that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
from moto.server import ThreadedMotoServer

from tests.e2e.programs import free_port

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
BUCKET = "archive"


@dataclass
class S3:
    """A store that can go away and come back with what it has.

    Attributes
    ----------
    endpoint : str
        Its URL.
    """

    port: int = field(default_factory=free_port)
    _server: ThreadedMotoServer | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def client(self):
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )

    def make_bucket(self, name: str) -> None:
        self.client().create_bucket(Bucket=name)

    def listed(self, bucket: str = BUCKET) -> list[str]:
        found = self.client().list_objects_v2(Bucket=bucket)
        return sorted(each["Key"] for each in found.get("Contents", ()))


@contextmanager
def s3() -> Iterator[S3]:
    made = S3()
    made.start()
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def failing(status: int, code: str, puts: list[dict[str, str]] | None = None) -> Iterator[str]:
    """Answer every request with an error, and keep the headers of PUTs; give the URL."""
    body = f"<Error><Code>{code}</Code><Message>study 1.2.3 of DOE^JOHN</Message></Error>".encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # or it would not ask for the body that waits for that

        def _answer(self) -> None:
            if puts is not None and self.command == "PUT":
                puts.append({name.lower(): value for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as endpoint:
        yield endpoint


@dataclass
class Gate:
    """Stands before a store, and keeps some requests back, as long as it is told.

    Attributes
    ----------
    kept_back : set of str
        Methods of requests that are answered only once `opened` is set, if then.
    on_request : callable
        Called with the method and the path of each.
    """

    endpoint: str = ""
    kept_back: set[str] = field(default_factory=set)
    opened: threading.Event = field(default_factory=threading.Event)
    on_request: Callable[[str, str], object] = lambda *_: None


@contextmanager
def gate(store: S3) -> Iterator[Gate]:
    """Stand before a store."""
    made = Gate()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            made.on_request(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command in made.kept_back:
                made.opened.wait()
            there = HTTPConnection("127.0.0.1", store.port, timeout=60)
            headers = {name: each for name, each in self.headers.items() if name != "Expect"}
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            data = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            size = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(size or 0))
            self.end_headers()
            self.wfile.write(data)
            there.close()

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as made.endpoint:
        try:
            yield made
        finally:
            made.opened.set()


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
