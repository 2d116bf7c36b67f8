"""H1: a parser that is fed from several threads mixes up their requests.

Releases:   httptools 0.7.1 to 0.9.0 without the GIL; with it only when a callback blocks or the
            interpreter switches threads in one.
Supported:  no, misuse: one parser shared between threads.
Symptom:    header names and values put together from two requests, callbacks of one request
            amid those of another, HttpParserError for valid requests, bytearrays that stay
            exported, crashes; at times an endless loop that takes all memory.
Cause:      llhttp's state and the header being assembled are fields of the parser, and nothing
            keeps a second feed_data() out while one is running.

Pass (0):   every call is whole (its callbacks are those of its own request, and no other call's
            come in between) or refused with RuntimeError before anything was called; every
            bytearray can be resized afterwards; the parser goes on working.
Fail (1):   anything else, a crash, a hang or the end of memory included.
Not run (2): no httptools, or one thread alone does not get what it should.

Each part runs in a child of its own, with a limit on its memory and its time. The first needs no
luck: a callback waits, for a moment, for another thread to feed the parser.
"""

import itertools
import os
import subprocess
import sys
import threading
import time

MEMORY = 4 << 30
LIMIT = 30  # seconds for a child
RACE = 3  # seconds of racing
WAIT = 0.5  # seconds that a callback waits for the other thread
THREADS = 4


class NotRun(Exception):
    pass


class Recorder:
    """A protocol that keeps the callbacks of each thread, and of all threads in order."""

    def __init__(self):
        self.local = threading.local()
        self.order = []
        self.hook = None

    def calls(self):
        try:
            return self.local.calls
        except AttributeError:
            self.local.calls = []
            return self.local.calls

    def record(self, *call):
        self.calls().append(call)
        self.order.append(threading.get_ident())
        if self.hook:
            self.hook(call)

    def on_message_begin(self):
        self.record("begin")

    def on_url(self, url):
        self.record("url", url)

    def on_header(self, name, value):
        self.record("header", name, value)

    def on_headers_complete(self):
        self.record("headers complete")

    def on_body(self, body):
        self.record("body", body)

    def on_message_complete(self):
        self.record("complete")


def request(mark):
    """Return a request that says mark everywhere, and its callbacks."""
    body = b"body-" + mark
    fields = [(b"Name-" + mark + b"-%d" % n, b"value-" + mark * 4) for n in range(6)]
    fields.append((b"Content-Length", b"%d" % len(body)))
    lines = [b"POST /" + mark + b" HTTP/1.1", *(b": ".join(field) for field in fields), b"", body]
    calls = [
        ("begin",),
        ("url", b"/" + mark),
        *(("header", *field) for field in fields),
        ("headers complete",),
        ("body", body),
        ("complete",),
    ]
    return b"\r\n".join(lines), calls


def feed(parser, recorder, mark):
    """Feed one request; return what is wrong, and whether it was refused."""
    data, expected = request(mark)
    data = bytearray(data)
    calls = recorder.calls()
    calls.clear()
    refused = False
    try:
        parser.feed_data(data)
    except RuntimeError as error:
        if type(error) is not RuntimeError or not str(error):
            return f"refused with {error!r}", True
        refused, expected = True, []
    except BaseException as error:
        return f"{error!r} for a valid request, after {calls}", False
    if calls != expected:
        return f"got {calls} instead of {expected}", refused
    try:
        data.append(0)
    except BufferError:
        return "a bytearray stays exported", refused
    return None, refused


def blocked(httptools):
    """One thread's callback waits while another thread feeds the same parser."""
    recorder = Recorder()
    parser = httptools.HttpRequestParser(recorder)
    problems = []
    done = threading.Event()

    def other():
        problem, _ = feed(parser, recorder, b"other")
        if problem:
            problems.append(f"the second thread: {problem}")
        done.set()

    thread = threading.Thread(target=other, daemon=True)

    def hook(call):
        if call[:2] == ("header", b"Name-first-2"):
            recorder.hook = None
            thread.start()
            done.wait(WAIT)

    recorder.hook = hook
    problem, _ = feed(parser, recorder, b"first")
    if problem:
        problems.append(f"the first thread: {problem}")
    thread.join(LIMIT)
    order = recorder.order
    if sum(one != two for one, two in itertools.pairwise(order)) > 1:
        problems.append("callbacks of one call came amid those of another")
    return problems, 1, 1


def race(httptools):
    """Several threads feed the same parser."""
    recorder = Recorder()
    parser = httptools.HttpRequestParser(recorder)
    problems = []
    whole, refusals = [], []
    start = threading.Barrier(THREADS)
    end = time.monotonic() + RACE

    def work(thread):
        count = 0
        start.wait()
        while not problems and time.monotonic() < end:
            problem, refused = feed(parser, recorder, b"%d-%d" % (thread, count))
            (refusals if refused else whole).append(thread)
            if problem:
                problems.append(problem)
            recorder.order.clear()
            count += 1

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    if not problems:
        problem, refused = feed(parser, recorder, b"last")
        if problem or refused:
            problems.append(f"after the race: {problem or 'refused'}")
    return problems, len(whole), len(refusals)


PARTS = {"blocked": blocked, "race": race}


def child(part):
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import httptools

    recorder = Recorder()
    alone, refused = feed(httptools.HttpRequestParser(recorder), recorder, b"alone")
    if alone or refused:
        raise NotRun(f"one thread alone: {alone or 'refused'}")
    problems, whole, refusals = PARTS[part](httptools)
    print(problems[0][:600] if problems else f"{whole} calls whole, {refusals} refused", flush=True)
    return 1 if problems else 0


def run(part):
    """Run a part in a child; return its status and what it said."""
    command = [sys.executable, "-W", "ignore", __file__, part]
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
    for part in PARTS:
        status, message = run(part)
        print(f"H1: {part}: {message}")
        statuses.append(status)
    return 2 if 2 in statuses else max(statuses)


if __name__ == "__main__":
    try:
        status = child(sys.argv[1]) if len(sys.argv) > 1 else main()
    except Exception as error:
        print(f"H1: could not run: {error!r}")
        status = 2
    if len(sys.argv) > 1:
        sys.stdout.flush()
        os._exit(status)  # a thread may still be in the parser
    sys.exit(status)
