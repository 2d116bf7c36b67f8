# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H1"
# title = "a parser that is fed from several threads mixes up their requests"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "every call is whole, or refused with RuntimeError before anything was called"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 40 }
# seconds = 60
# exclusive = true
# ///
"""H1: a parser that is fed from several threads mixes up their requests.

Use:        one parser shared between threads, which is misuse. With the GIL on, the same happens
            only when a callback blocks or the interpreter switches threads in one.
Symptom:    header names and values put together from two requests, callbacks of one request
            amid those of another, HttpParserError for valid requests, bytearrays that stay
            exported, crashes; at times an endless loop that takes all memory.
Cause:      llhttp's state and the header being assembled are fields of the parser, and nothing
            keeps a second feed_data() out while one is running.

Shows:      first, what needs no luck: a callback waits, for a moment, for another thread to feed
            the parser. Then several threads race. Each call has to be whole (its callbacks are
            those of its own request, and no other call's come in between) or refused with
            RuntimeError before anything was called; every bytearray can be resized afterwards;
            and the parser goes on working.
"""

import concurrent.futures
import itertools
import os
import sys
import threading
import time

import httptools

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77  # docs/probes.md
WAIT = 20_000  # times that a callback gives way to the other thread
RACE = 2_000  # requests that each thread feeds
THREADS = 4


def fail(code, what):
    print(f"H1: {what}", flush=True)
    os._exit(code)  # called from any thread; another may still be in the parser


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
    """Feed one request; return whether it was refused."""
    data, expected = request(mark)
    data = bytearray(data)
    calls = recorder.calls()
    calls.clear()
    refused = False
    try:
        parser.feed_data(data)
    except RuntimeError as error:
        if type(error) is not RuntimeError or not str(error):
            fail(WRONG_ANSWER, f"refused with {error!r}")
        refused, expected = True, []
    except httptools.HttpParserError as error:
        fail(WRONG_ANSWER, f"{error!r} for a valid request, after {calls}")
    if calls != expected:
        fail(WRONG_ANSWER, f"got {calls} instead of {expected}")
    try:
        data.append(0)
    except BufferError:
        fail(LEAK, "a bytearray stays exported")
    return refused


def meet():
    """One thread's callback waits while another thread feeds the same parser."""
    recorder = Recorder()
    parser = httptools.HttpRequestParser(recorder)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        others = []

        def hook(call):
            if call[:2] == ("header", b"Name-first-2"):
                recorder.hook = None
                begun = threading.Event()
                other = pool.submit(lambda: (begun.set(), feed(parser, recorder, b"other"))[1])
                others.append(other)
                begun.wait()
                for _ in range(WAIT):  # it may also wait for this call to end
                    if other.done():
                        break
                    time.sleep(0)

        recorder.hook = hook
        refused = [feed(parser, recorder, b"first"), others[0].result()]
    order = recorder.order
    if sum(one != two for one, two in itertools.pairwise(order)) > 1:
        fail(WRONG_ANSWER, "callbacks of one call came amid those of another")
    print(f"H1: two calls that meet: {sum(refused)} refused")


def race():
    """Several threads feed the same parser."""
    recorder = Recorder()
    parser = httptools.HttpRequestParser(recorder)
    start = threading.Barrier(THREADS)

    def work(thread):
        start.wait()
        refusals = []
        while len(refusals) < RACE:
            refusals.append(feed(parser, recorder, b"%d-%d" % (thread, len(refusals))))
            recorder.order.clear()
        return refusals

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        refused = list(itertools.chain(*pool.map(work, range(THREADS))))
    if feed(parser, recorder, b"last"):
        fail(WRONG_ANSWER, "refused after the race")
    print(f"H1: a race: {refused.count(False)} calls whole, {refused.count(True)} refused")


def main():
    recorder = Recorder()
    parser = httptools.HttpRequestParser(recorder)
    data, expected = request(b"alone")
    parser.feed_data(data)
    if recorder.calls() != expected:
        print(f"H1: one thread alone gets {recorder.calls()}")
        sys.exit(NOT_RUN)
    meet()
    race()


if __name__ == "__main__":
    main()
