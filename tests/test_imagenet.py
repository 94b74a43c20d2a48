"""The public backbone: fetched once, checked, gone on with where a download broke off, and asked for by name."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smad_models import imagenet
from smad_models.cli import main
from smad_models.imagenet import RESNET18, find_backbone

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves one file, as a download server does; what it was asked for is kept."""

    content = CONTENT
    stops_after: int | None = None  # bytes, once
    knows_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.knows_ranges else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.stops_after is not None:
            body, self.server.stops_after = body[: self.server.stops_after], None
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("SMAD_MODELS", str(tmp_path / "models"))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        known = replace(
            RESNET18,
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            size=len(CONTENT),
            url=f"http://127.0.0.1:{server.server_address[1]}/resnet18.pth",
        )
        monkeypatch.setattr(imagenet, "RESNET18", known)
        yield server
        server.shutdown()
        thread.join()


def test_the_name_of_the_public_file_holds_the_first_digits_of_its_sha256() -> None:
    assert RESNET18.name == f"resnet18-{RESNET18.sha256[:8]}.pth"
    assert RESNET18.url.endswith(RESNET18.name)
    assert len(RESNET18.sha256) == 64


def test_the_file_is_fetched_once_and_kept(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = find_backbone("imagenet")
    assert path == tmp_path / "models" / RESNET18.name
    assert path.read_bytes() == CONTENT
    assert "fetching resnet18-f37072fd.pth from http://127.0.0.1" in capsys.readouterr().err
    assert find_backbone("imagenet") == path
    assert server.asked == [None]
    assert not list(path.parent.glob("*.part"))


def test_a_download_that_broke_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.stops_after = 1_000_000
    with pytest.raises(FileNotFoundError, match=r"1000000 of 3000000 bytes are kept\. Download http.* and put it at"):
        find_backbone("imagenet")
    assert not (tmp_path / "models" / RESNET18.name).exists()
    path = find_backbone("imagenet")
    assert path is not None
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-"]


def test_a_server_that_knows_no_ranges_sends_all_again(server: Server) -> None:
    server.stops_after, server.knows_ranges = 1_000_000, False
    with pytest.raises(FileNotFoundError):
        find_backbone("imagenet")
    path = find_backbone("imagenet")
    assert path is not None
    assert path.read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(ValueError, match=r"gave another file: want sha256 \w{64} \(3000000 bytes\), found \w{64}"):
        find_backbone("imagenet")
    assert [path.name for path in (tmp_path / "models").iterdir()] == [f".{RESNET18.name}.lock"]
    (tmp_path / "models" / RESNET18.name).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"not the file that this version knows: .* Delete it and Download"):
        find_backbone("imagenet")


def test_two_who_ask_at_once_fetch_it_once(server: Server) -> None:
    found: list[Path | None] = []
    threads = [threading.Thread(target=lambda: found.append(find_backbone("imagenet"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert server.asked == [None]


def test_without_internet_the_command_says_which_file_to_put_where(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(imagenet, "RESNET18", replace(imagenet.RESNET18, url="http://nowhere.invalid/resnet18.pth"))
    words = ["embed-faces", "--fold", "1", "--output", str(tmp_path / "features"), "--backbone", "imagenet"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "cannot fetch resnet18-f37072fd.pth from http://nowhere.invalid/resnet18.pth" in said
    assert f"on a machine with internet access and put it at {tmp_path / 'models' / RESNET18.name}" in said
    assert "Traceback" not in said


def test_a_file_of_ones_own_is_taken_as_it_is_and_its_absence_named(tmp_path: Path) -> None:
    assert find_backbone(None) is None
    own = tmp_path / "own.pth"
    with pytest.raises(FileNotFoundError, match=r"backbone .*own\.pth: no such file \(`imagenet` fetches the public"):
        find_backbone(own)
    torch.save({}, own)
    assert find_backbone(str(own)) == own
