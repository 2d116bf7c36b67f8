"""The one issue: opened, updated, left alone, closed; a repository's API stands in a list."""

from __future__ import annotations

import io
from json import dumps
from pathlib import Path
from typing import Any

import pytest
import requests

from freewheel.base.errors import UpstreamError
from freewheel.upkeep import issue, watch_report
from freewheel.upkeep.issue import Repository
from tests.unit.test_watch import SEEN

PLACE = Repository(url="https://api.example/repos/us/freewheel", token="s3cret")  # noqa: S106


class FakeApi:
    """Keeps issues as GitHub does, as far as one issue needs it."""

    def __init__(self) -> None:
        self.issues: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.refuse = False

    def request(
        self, method: str, url: str, *, json: object, headers: dict[str, str], timeout: float
    ) -> requests.Response:
        assert headers["Authorization"] == "Bearer s3cret"
        assert timeout > 0
        self.asked.append(method)
        path = url.removeprefix(PLACE.url)
        answer = requests.Response()
        answer.status_code = 403 if self.refuse else 200
        body = [] if self.refuse else self.answer(method, path, json)
        answer.raw = io.BytesIO(dumps(body).encode())
        return answer

    def answer(self, method: str, path: str, content: Any) -> object:  # noqa: ANN401
        if method == "GET":
            opened = [one for one in self.issues if one["state"] == "open"]
            page = int(path.rpartition("page=")[2])
            return opened[(page - 1) * 100 : page * 100]
        if method == "POST":
            made = {"number": len(self.issues) + 1, "state": "open", "user": {"type": "Bot"}}
            self.issues.append(made | content)
            return self.issues[-1]
        number = int(path.rpartition("/")[2])
        (found,) = (one for one in self.issues if one["number"] == number)
        found |= content
        return found


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    monkeypatch.setattr(requests, "request", fake.request)
    return fake


@pytest.fixture
def noteworthy(tmp_path: Path) -> Path:
    watch_report.write(tmp_path / "noteworthy", [SEEN])
    return tmp_path / "noteworthy"


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    watch_report.write(tmp_path / "quiet", [])
    return tmp_path / "quiet"


def test_the_life_of_the_issue(api: FakeApi, noteworthy: Path, quiet: Path) -> None:
    assert issue.tell(quiet, PLACE) == "nothing to tell of"
    assert issue.tell(noteworthy, PLACE) == "opened #1"
    assert issue.tell(noteworthy, PLACE) == "#1 says so already"
    (noteworthy / "report.md").write_text("something else")
    assert issue.tell(noteworthy, PLACE) == "updated #1"
    assert issue.tell(quiet, PLACE) == "closed #1"
    assert issue.tell(quiet, PLACE) == "nothing to tell of"
    assert len(api.issues) == 1
    assert api.issues[0]["state"] == "closed"
    assert issue.tell(noteworthy, PLACE) == "opened #2"


def test_it_is_found_among_many_and_a_persons_is_left_alone(api: FakeApi, noteworthy: Path) -> None:
    issue.tell(noteworthy, PLACE)
    ours = api.issues.pop()
    for number in range(2, 150):
        copied = {**ours, "number": number, "user": {"type": "User"}}
        api.issues.append(copied)
    api.issues.append(ours)

    assert issue.tell(noteworthy, PLACE) == "#1 says so already"
    assert {one["state"] for one in api.issues} == {"open"}


def test_a_refusal_says_what_to_check(api: FakeApi, noteworthy: Path) -> None:
    api.refuse = True

    with pytest.raises(UpstreamError, match="GitHub did not take it: GET /issues") as caught:
        issue.tell(noteworthy, PLACE)

    assert "s3cret" not in str(caught.value)


def test_without_a_report_or_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamError, match="holds no report"):
        issue.tell(tmp_path, PLACE)
    for name in ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UpstreamError, match="GITHUB_TOKEN is not set"):
        issue.repository()


def test_the_repository_of_a_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_API_URL", "https://api.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "us/freewheel")
    monkeypatch.setenv("GITHUB_TOKEN", "s3cret")

    assert issue.repository() == PLACE
    assert "s3cret" not in repr(issue.repository())
