"""One issue on GitHub that says what the watch saw: opened once, then updated, at last closed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from freewheel.base.errors import UpstreamError
from freewheel.upkeep.watch_report import DATA, REPORT

TITLE = "Upstream has released something new"
_MARK = "<!-- written by `nox -s watch`; it finds this issue by this line -->"
_PER_PAGE = 100
_TIMEOUT = 60.0  # seconds
_LONGEST = 60_000  # characters; GitHub takes 65,536


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository's part of the REST API, and the token that may write issues there."""

    url: str
    token: str = field(repr=False)


def repository() -> Repository:
    """The repository that a workflow runs in. Raises UpstreamError outside of one."""
    names = ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise UpstreamError(
            "no repository is named to tell of it in",
            problems=[f"{name} is not set" for name in missing],
            hint="in a workflow the first two are; GITHUB_TOKEN needs `issues: write`",
        )
    api, name, token = (os.environ[each] for each in names)
    return Repository(url=f"{api}/repos/{name}", token=token)


def tell(directory: Path, place: Repository) -> str:
    """Open, update or close the issue by the report in a directory; what was done.

    Raises UpstreamError.
    """
    noteworthy, text = _read(directory)
    body = f"{_MARK}\n\n{text[:_LONGEST]}"
    found = _find(place)
    if found is None and not noteworthy:
        return "nothing to tell of"
    if found is None:
        made = _ask(place, "POST", "/issues", {"title": TITLE, "body": body})
        return f"opened #{made['number']}"
    path = f"/issues/{found['number']}"
    if not noteworthy:
        _ask(place, "PATCH", path, {"body": body, "state": "closed", "state_reason": "completed"})
        return f"closed #{found['number']}"
    if found["body"] == body:
        return f"#{found['number']} says so already"
    _ask(place, "PATCH", path, {"body": body})
    return f"updated #{found['number']}"


def _read(directory: Path) -> tuple[bool, str]:
    try:
        data = json.loads((directory / DATA).read_text(encoding="utf-8"))
        return bool(data["noteworthy"]), (directory / REPORT).read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UpstreamError(
            f"{directory} holds no report of the watch: {error}",
            hint="make one: `nox -s watch -- --output DIRECTORY`",
        ) from error


def _find(place: Repository) -> Mapping[str, Any] | None:
    """The open issue that bears the mark; a person's that happens to is left alone."""
    page = 1
    while True:
        query = f"/issues?state=open&per_page={_PER_PAGE}&page={page}"
        listed: list[dict[str, Any]] = _ask(place, "GET", query)
        for issue in listed:
            marked = str(issue.get("body") or "").startswith(_MARK)
            if marked and issue["user"]["type"] == "Bot" and "pull_request" not in issue:
                return issue
        if len(listed) < _PER_PAGE:
            return None
        page += 1


def _ask(place: Repository, method: str, path: str, content: object = None) -> Any:  # noqa: ANN401
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {place.token}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    try:
        answer = requests.request(
            method, place.url + path, json=content, headers=headers, timeout=_TIMEOUT
        )
        answer.raise_for_status()
        return answer.json()
    except (requests.RequestException, ValueError) as error:
        raise UpstreamError(
            f"GitHub did not take it: {method} {path.partition('?')[0]}",
            problems=[str(error)],
            hint="check that the job has `issues: write`, and that issues are enabled",
        ) from error
