"""The optional stronger model: it proposes, rules decide, and it is asked once a section."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from quantahr.policies import Section
from training.config import QuestionWriter
from training.dataset.writer import EndpointWriter, WriterError, accepted

SECTION = Section(
    "leave:1", "L.docx", "L", ("Leave",), "You get 25 days a year. Dogs stay at home.", ("employee",), None, "hash", 0
)
PROPOSALS = [
    {"question": "how many days?", "answer": "25 days.", "sentence": 1},
    {"question": "how many weeks?", "answer": "6 weeks.", "sentence": 1},
    {"question": "my dog?", "answer": "It stays at home.", "sentence": 9},
]


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            content = "Here they are:\n" + json.dumps(PROPOSALS)
            reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args: object) -> None:
            """Silent."""

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_only_what_the_section_says_is_accepted() -> None:
    assert accepted(json.dumps(PROPOSALS), SECTION) == [("how many days?", "25 days.", (0,))]
    assert accepted("I cannot do that.", SECTION) == []


def test_a_section_is_asked_about_once(
    server: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    monkeypatch.setenv("WRITER_KEY", "s3cret")
    writer = EndpointWriter(QuestionWriter(url=url, model="big", api_key_env="WRITER_KEY"), tmp_path)
    assert writer(SECTION) == writer(SECTION) == [("how many days?", "25 days.", (0,))]
    assert [(entry["path"], entry["model"], entry["key"]) for entry in asked] == [
        ("/v1/chat/completions", "big", "Bearer s3cret")
    ]


def test_a_server_that_is_not_there_and_a_missing_key_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WriterError, match="Check that the server runs"):
        EndpointWriter(QuestionWriter(url="http://127.0.0.1:9/v1", model="big"), tmp_path)(SECTION)
    with pytest.raises(WriterError, match="NO_SUCH_KEY, which is not set"):
        EndpointWriter(QuestionWriter(url="http://127.0.0.1:9/v1", model="big", api_key_env="NO_SUCH_KEY"), tmp_path)(
            SECTION
        )
