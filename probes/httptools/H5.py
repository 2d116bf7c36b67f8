"""H5: after a callback has fed the parser, feed_data() reads between unrelated pieces of memory.

Releases:   httptools 0.7.1 to 0.9.0, with the GIL and without, in one thread.
Use:        a callback feeds the same parser with data that ends within a URL, a header or a body;
            or it feeds it while the data being parsed began within one.
Symptom:    HttpParserCallbackError for a valid request, from SystemError: Negative size passed to
            PyBytes_FromStringAndSize, or MemoryError; or a callback with whatever lies between
            the two pieces of data in memory; or a crash.
Cause:      llhttp keeps where the current span (a URL, a header, a body) began in the parser. A
            nested call leaves the outer call with a beginning in its own data, or goes on within
            a span whose beginning the outer call has taken away.

Pass (0):   the request of the outer call is parsed as without the nested call, which is refused
            with RuntimeError or calls back with what it was fed.
Fail (1):   anything else, a crash included.
Not run (2): no httptools, or the callback did not run as meant.

Each case runs in a child of its own, with a limit on its memory and its time.
"""

import subprocess
import sys

MEMORY = 4 << 30
LIMIT = 30  # seconds for a child
ROUNDS = 20

REQUEST = b"GET /outer HTTP/1.1\r\nHost: example.org\r\n\r\n"
OUTER = [("url", b"/outer"), ("header", b"Host", b"example.org"), ("complete",)]
INNER = b"POST /inner HTTP/1.1\r\nName: value\r\nContent-Length: 9\r\n\r\nsome body"
INNER_CALLS = [
    ("url", b"/inner"),
    ("header", b"Name", b"value"),
    ("header", b"Content-Length", b"9"),
    ("body", b"some body"),
    ("complete",),
]

# Where the outer data is cut, and what a callback feeds in the end.
CASES = {
    "ends in a URL": (0, INNER[:9]),
    "ends in a header name": (0, INNER[:24]),
    "ends in a header value": (0, INNER[:31]),
    "ends in a body": (0, INNER[:-3]),
    "outer began in a URL": (7, INNER),
    "outer began in a header": (24, INNER),
}


class NotRun(Exception):
    pass


def whole(calls):
    """Join the pieces in which one URL or body arrives."""
    joined = []
    for name, *values in calls:
        if name in ("url", "body") and joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1] + values[0])
        else:
            joined.append((name, *values))
    return joined


class Protocol:
    def __init__(self):
        self.calls = self.outer = []
        self.inner = []
        self.outcomes = []
        self.nested = None

    def on_url(self, url):
        self.calls.append(("url", url))

    def on_header(self, name, value):
        self.calls.append(("header", name, value))

    def on_body(self, body):
        self.calls.append(("body", body))

    def on_message_complete(self):
        self.calls.append(("complete",))
        if self.nested and self.calls is self.outer:
            self.calls = self.inner
            try:
                self.nested()
            except Exception as error:
                self.outcomes.append(error)
            else:
                self.outcomes.append(None)
            self.calls = self.outer


def is_part(calls):
    """Whether these are the first of the inner request's callbacks, the last one cut short."""
    calls = whole(calls)
    expected = INNER_CALLS[: len(calls)]
    if calls == expected:
        return True
    cut, full = calls[-1], expected[-1]
    return calls[:-1] == expected[:-1] and cut[0] == full[0] and full[1].startswith(cut[1])


def problem_of(httptools, cut, inner):
    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    protocol.nested = lambda: parser.feed_data(inner)
    pieces = (REQUEST[:cut], REQUEST[cut:]) if cut else (REQUEST,)
    try:
        for piece in pieces:
            parser.feed_data(piece)
    except Exception as error:
        return f"{error!r} from {error.__context__!r} for a valid request"
    if len(protocol.outcomes) != 1:
        raise NotRun(f"fed {len(protocol.outcomes)} times")
    (outcome,) = protocol.outcomes
    if whole(protocol.outer) != OUTER:
        return f"callbacks of the outer request: {protocol.outer}"
    if outcome is None and is_part(protocol.inner):
        return None
    if type(outcome) is RuntimeError and not protocol.inner:
        return None
    return f"{outcome!r} from {outcome and outcome.__context__!r}, callbacks {protocol.inner}"


def child(case):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import httptools

    protocol = Protocol()
    httptools.HttpRequestParser(protocol).feed_data(REQUEST + INNER)
    if whole(protocol.outer) != OUTER + INNER_CALLS:
        raise NotRun(f"without nesting: callbacks {protocol.outer}")
    cut, inner = CASES[case]
    problems = [problem_of(httptools, cut, bytes(bytearray(inner))) for _ in range(ROUNDS)]
    problems = [problem for problem in problems if problem]
    print(f"{len(problems)} of {ROUNDS}: {problems[0][:300]}" if problems else "none", flush=True)
    return 1 if problems else 0


def run(case):
    """Run a case in a child; return its status and what it said."""
    command = [sys.executable, "-W", "ignore", __file__, case]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"still running after {LIMIT} s"
    if result.returncode in (0, 1, 2) and result.stdout:
        return result.returncode, result.stdout.strip()
    return 1, f"ended with {result.returncode}: {result.stderr.strip()[-300:]}"


def main():
    statuses = []
    for case in CASES:
        status, message = run(case)
        print(f"H5: {case}: problems: {message}")
        statuses.append(status)
    return 2 if 2 in statuses else max(statuses)


if __name__ == "__main__":
    try:
        status = child(sys.argv[1]) if len(sys.argv) > 1 else main()
    except Exception as error:
        print(f"H5: could not run: {error!r}")
        status = 2
    sys.exit(status)
