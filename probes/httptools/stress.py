# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.stress]
# title = "keep-alive, chunked, pipelined, upgraded and malformed traffic, a parser per connection"
# use = "supported"
# work = { quick = 5, full = 40 }
# seconds = 60
# exclusive = true
# ///
# ruff: noqa: S311  random choices must be repeatable
"""What servers and clients do with httptools, in four threads at once, a parser per connection.

Connections are made of random, valid messages, of which it is known what each callback has to be
given. They are cut into pieces anywhere, also at every byte, and fed to parsers from buffers of
all sorts. All that the parsers call back with and answer is compared with what was put in, what is
malformed with what came of it in one thread, before the others began. After each call, its buffer
has to be free again.

    python src/freewheel/proof/load.py probes/httptools/stress.py SECONDS
"""

import contextlib
import itertools
import mmap
import queue
import random
import sys
import threading
import weakref
from collections import deque

import httptools
from load import LEAK, NOT_RUN, SEED, THREADS, WRONG, collect, end, expect, until

PACKAGE = httptools
SLACK = {"MiB resident": 16}


def resting():
    while not HANDED_OVER.empty():
        go_on(random.Random(SEED))


# ------------------------------------------------- messages, and what a parser has to make of them

ANY = bytes(range(256))
TEXT = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100)) + b" \t"
TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz"
USER = b"azAZ09-._~!$&'()*+,;=%"
TARGET = USER + b"/:@"
METHODS = b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE PROPFIND REPORT PURGE M-SEARCH".split()
STATUSES = 200, 201, 206, 301, 404, 500, 599
BODILESS = 100, 102, 204, 304
# Names that are like those which mean something to a parser must not mislead it.
NAMES = b"Host Accept Connect Content-Lengths Transfer-Encodings Trailer Upgrade-Insecure".split()
EXTENSIONS = b"", b"", b";a", b";name=value", b';x="quo ted";y=1'
# What the Connection header says in HTTP/1.0 and in HTTP/1.1, by what comes after the message.
CONNECTION = {
    "next": ((b"keep-alive", b"Keep-Alive, TE"), (b"", b"", b"keep-alive", b"TE")),
    "close": ((b"", b"close"), (b"close", b"TE, Close")),
    "eof": ((b"", b"close"), (b"", b"close")),
    "upgrade": ((), (b"upgrade", b"keep-alive, Upgrade")),
}


def some(random, alphabet, most, least=0):
    """Random bytes; now and then many more than usual."""
    number = random.randint(least, most) * (1 if random.randrange(100) else 50)
    return bytes(random.choices(alphabet, k=number))


def field(random, name=b"", value=None):
    """A header or trailer: this one, its name in upper or lower case, or any."""
    if not name:
        name = random.choice((random.choice(NAMES), b"X-" + some(random, TOKEN, 20)))
    name = random.choice((name, name.lower(), name.upper()))
    return name, some(random, TEXT, 60).strip() if value is None else value


class Connection:
    """Random messages, one after the other, and the callbacks that they have to lead to.

    ``ending`` says what comes after the last: more of them (next), nothing (close), the rest of
    its body, however long (eof), or data in another protocol (upgrade).
    """

    def __init__(self, random, ending=None):
        self.random, self.response = random, random.random() < 0.5
        ending = ending or random.choice(("next", "close", "eof" if self.response else "close"))
        self.wire, self.events, self.messages = b"", [], random.randint(1, 5)
        for _ in range(self.messages - 1):
            self.add_message("next")
        self.add_message(ending)

    def add_message(self, ending):
        random, fields = self.random, []
        minor = 1 if ending == "upgrade" else random.choice((0, 1, 1, 1))
        code = random.choice(STATUSES if ending == "eof" else STATUSES + BODILESS)
        if word := random.choice(CONNECTION[ending][minor]):
            fields.append(field(random, b"Connection", word))
        if ending == "upgrade" or not random.randrange(20):  # by itself, it means nothing
            fields.append(field(random, b"Upgrade", b"websocket"))
        if ending == "eof":
            data = some(random, ANY, 500, 1)
            body, events = data, [("body", data)]
        elif ending == "upgrade" or (self.response and code in BODILESS):
            body, events = b"", []
        else:
            body, events = self.add_body(fields, minor)
        fields += [field(random) for _ in range(random.randrange(8))]
        random.shuffle(fields)
        if self.response:
            asked = 101 if ending == "upgrade" else code
            first = "status", some(random, TEXT, 20).strip()
            line = b"HTTP/1.%d %d %b" % (minor, asked, first[1])
        else:
            asked, target = random.choice(METHODS), b"/" + some(random, TARGET + b"?", 60)
            if ending == "upgrade" and random.randrange(2):
                asked, target = b"CONNECT", b"example.org:%d" % random.randrange(1, 65536)
            first = (
                "url",
                random.choice((target, b"http://h" + target)) if target[:1] == b"/" else target,
            )
            line = b"%b %b HTTP/1.%d" % (asked, first[1], minor)
        head = [b"%b:%b%b" % (a, random.choice((b"", b" ", b" \t ")), b) for a, b in fields]
        self.wire += b"\r\n".join([line, *head, b"", body])
        alive = ending in ("next", "upgrade")
        self.events += [("begin",), first, *(("header", *pair) for pair in fields)]
        self.events.append(("headers", f"1.{minor}", asked, alive, ending == "upgrade"))
        self.events += events if ending == "eof" else [*events, ("complete", alive)]

    def add_body(self, fields, minor):
        """None, one with a length, or one in chunks; how it is sent, and the callbacks."""
        random = self.random
        if not self.response:
            if not random.randrange(3):
                return b"", []
            fields += [field(random, b"Expect", b"100-continue")] * (random.randrange(5) == 0)
        if not minor or random.randrange(2):
            data = some(random, ANY, 400)
            fields.append(field(random, b"Content-Length", b"%d" % len(data)))
            return data, [("body", data)] if data else []
        fields.append(field(random, b"Transfer-Encoding", b"chunked"))
        wire, events = [], []
        for _ in range(random.randrange(5)):
            data, size = some(random, ANY, 100, 1), random.choice((b"%x", b"%X", b"00%x"))
            wire += [size % len(data), random.choice(EXTENSIONS), b"\r\n", data, b"\r\n"]
            events += [("chunk",), ("body", data), ("chunk end",)]
        trailers = [field(random) for _ in range(random.choice((0, 0, 1, 3)))]
        wire += [b"0", random.choice(EXTENSIONS), b"\r\n", *(b"%b:%b\r\n" % t for t in trailers)]
        events += [("chunk",), *(("header", *trailer) for trailer in trailers), ("chunk end",)]
        return b"".join([*wire, b"\r\n"]), events


class Raised(Exception):
    pass


class Recorder:
    """A protocol that writes down its calls, with a parser; it may raise at one of them."""

    def __init__(self, response, raise_at=-1, requests=httptools.HttpRequestParser):
        self.calls, self.raise_at = [], raise_at
        self.parser = (httptools.HttpResponseParser if response else requests)(self)

    def called(self, *event):
        if len(self.calls) == self.raise_at:
            self.raised = Raised(event)
            raise self.raised
        self.calls.append(event)

    def on_message_begin(self):
        self.called("begin")

    def on_url(self, url):
        self.called("url", url)

    def on_status(self, status):
        self.called("status", status)

    def on_header(self, name, value):
        self.called("header", name, value)

    def on_headers_complete(self):
        parser = self.parser
        asked = getattr(parser, "get_method", None) or parser.get_status_code
        alive, upgrades = parser.should_keep_alive(), parser.should_upgrade()
        self.called("headers", parser.get_http_version(), asked(), alive, upgrades)

    def on_body(self, body):
        self.called("body", body)

    def on_chunk_header(self):
        self.called("chunk")

    def on_chunk_complete(self):
        self.called("chunk end")

    def on_message_complete(self):
        self.called("complete", self.parser.should_keep_alive())

    def events(self):
        """The calls, those joined that are pieces of one thing."""
        joined = []
        for event in self.calls:
            if event[0] in ("url", "status", "body") and joined and joined[-1][0] == event[0]:
                joined[-1] = event[0], joined[-1][1] + event[1]
            else:
                joined.append(event)
        return joined


def pieces(random, wire):
    """Cut it: nowhere, into equal pieces, at every byte, or anywhere."""
    cuts = sorted(random.choices(range(len(wire)), k=random.randint(1, 12)))
    match random.randrange(5):
        case 0:
            cuts = []
        case 1:
            cuts = range(0, len(wire), random.randint(1, 2000))
        case 2 if len(wire) < 2000:
            cuts = range(len(wire))
    return [wire[a:b] for a, b in itertools.pairwise([0, *cuts, len(wire)]) if a < b]


def feed(random, function, data):
    """Call a function with a buffer of some sort, which has to be free again afterwards."""
    sort = random.randrange(50)
    if sort < 15 or not data:
        return function(data)
    try:
        if sort == 49:
            with mmap.mmap(-1, len(data)) as mapped:
                mapped[:] = data
                return function(mapped)
        array = bytearray(data if sort < 30 else b"before" + data + b"after")
        try:
            if sort < 30:
                return function(array)
            with memoryview(array) as whole, whole[6:-5] as view:
                return function(view)
        finally:
            array.append(0)
    except BufferError as error:
        return end(LEAK, f"a buffer is still in use: {error}")


def parse(random, recorder, left):
    """Feed the pieces; the exception, and what is left when it comes."""
    left = deque(left)
    while left:
        piece = left.popleft()
        try:
            feed(random, recorder.parser.feed_data, piece)
        except httptools.HttpParserUpgrade as upgrade:
            return upgrade, b"".join([piece[upgrade.args[0] :], *left])
        except httptools.HttpParserError as error:
            return error, b"".join(left)
    return None, b""


# ----------------------------------------------------------------------------- the kinds of work

CONNECTIONS = []  # some of them, all parsed many times, cut in other ways
HANDED_OVER = queue.SimpleQueue()


def check(random, connection):
    recorder = Recorder(connection.response)
    error, _ = parse(random, recorder, pieces(random, connection.wire))
    expect("an exception", None, error)
    expect("callbacks", connection.events, recorder.events())
    return connection.messages


def connections(worker):
    """Requests or responses, all that are sent on a connection."""
    new = Connection(worker.random)
    return sum(check(worker.random, one) for one in [new, *worker.random.choices(CONNECTIONS, k=5)])


def upgrades(worker):
    """Connections that go on in another protocol, of whose data nothing may be lost."""
    connection, after = Connection(worker.random, "upgrade"), some(worker.random, ANY, 50)
    recorder = Recorder(connection.response)
    error, left = parse(worker.random, recorder, pieces(worker.random, connection.wire + after))
    expect("an exception", httptools.HttpParserUpgrade, type(error))
    expect("data after the upgrade", after, left)
    expect("callbacks", connection.events, recorder.events())
    return 1


def malformed(worker):
    """What is malformed is refused, as it was in one thread."""
    for wire in worker.random.sample(MALFORMED, 5):
        expect(f"{wire!r}, whole", REFERENCE[wire], refusal(worker.random, wire, [wire]))
        cut = refusal(worker.random, wire, pieces(worker.random, wire))
        expect(f"{wire!r}, in pieces", REFERENCE[wire][0], cut[0])
    return 10


def refusal(random, wire, left):
    recorder = Recorder(wire.startswith(b"HTTP/"))
    error, _ = parse(random, recorder, left)
    return [type(error), str(error), *recorder.events()]


def raising(worker):
    """A callback raises; the parser's own exception has that one as its context."""
    connection = worker.random.choice(CONNECTIONS)
    recorder = Recorder(connection.response, worker.random.randrange(len(connection.events)))
    error, _ = parse(worker.random, recorder, pieces(worker.random, connection.wire))
    expect("an exception", httptools.HttpParserCallbackError, type(error))
    expect("its context", recorder.raised, error.__context__)
    whole = recorder.events()[:-1]  # of the last one, there may be a piece only
    expect("callbacks before that", connection.events[: len(whole)], whole)
    return 1


def handing_over(worker):
    """Between two calls, a parser goes from one thread to another."""
    connection = worker.random.choice(CONNECTIONS)
    cut = pieces(worker.random, connection.wire)
    HANDED_OVER.put((connection, Recorder(connection.response), cut))
    done = 0
    while HANDED_OVER.qsize() > THREADS:
        done += go_on(worker.random)
    return done


def go_on(random):
    """Take the next parser, feed it some, and hand it over again; at the end, check."""
    try:
        connection, recorder, left = HANDED_OVER.get_nowait()
    except queue.Empty:
        return 0
    number = random.randint(1, max(1, len(left) // 2))
    error, _ = parse(random, recorder, left[:number])
    expect("an exception", None, error)
    if left[number:]:
        HANDED_OVER.put((connection, recorder, left[number:]))
        return 0
    expect("callbacks", connection.events, recorder.events())
    return connection.messages


def short_lived_threads(worker):
    """Threads parse what is sent on a connection, and end."""
    one = worker.random.choice(CONNECTIONS)
    seeds = [random.Random(worker.random.random()) for _ in range(4)]
    threads = [threading.Thread(target=check, args=(seed, one)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 4 * one.messages


class Subclass(httptools.HttpRequestParser):
    pass


def cycles(worker):
    """Protocols and parsers that only have each other are collected."""
    watched, wire = [], b"GET / HTTP/1.1\r\nHost: cycles\r\nCookie: unfini"
    for _ in range(10):
        recorder = Recorder(False, requests=Subclass)
        parse(worker.random, recorder, [wire])
        watched += [weakref.ref(recorder), weakref.ref(recorder.parser)]
    del recorder
    gone = "that protocols and parsers are collected"
    until(lambda: not any(one() for one in watched), collect, gone, LEAK)
    return 10


def urls(worker):
    """parse_url() gives the parts that a URL was put together from."""
    random = worker.random
    parts = dict.fromkeys(("schema", "userinfo", "host", "port"))
    url = parts["path"] = b"/" + some(random, TARGET, 60)
    if random.randrange(3):
        parts["schema"] = random.choice((b"http", b"https", b"ws", b"Custom"))
        parts["userinfo"] = random.choice((None, some(random, USER, 10, 1) + b":secret"))
        parts["host"] = random.choice((b"example.org", b"127.0.0.1", b"::1", b"a-b.c"))
        parts["port"] = random.choice((None, 1, 80, 8080, 65535))
        user = parts["userinfo"] + b"@" if parts["userinfo"] else b""
        host = b"[::1]" if parts["host"] == b"::1" else parts["host"]
        port = b":%d" % parts["port"] if parts["port"] else b""
        url = parts["schema"] + b"://" + user + host + port + url
    for name, mark in ("query", b"?"), ("fragment", b"#"):
        parts[name] = random.choice((None, some(random, TARGET + b"?", 30, 1)))
        url += mark + parts[name] if parts[name] else b""
    parsed = feed(random, httptools.parse_url, url)
    expect(f"parts of {url!r}", parts, {name: getattr(parsed, name) for name in parts})
    url = random.choice(NO_URLS)
    with contextlib.suppress(httptools.HttpParserInvalidURLError):
        got = feed(random, httptools.parse_url, url)
        end(WRONG, f"expected that {url!r:.100} is no URL, got {got}")
    return 2


# What comes of all these in one thread is in REFERENCE.
LINES = (
    b"GOT / HTTP/1.1|get / HTTP/1.1|GET HTTP/1.1|GET  HTTP/1.1|\0|GET / HTTP/9.9|GET / HTTP/1|"
    b"GET / |GET / HTTQ/1.1|HTTP/1.1 2xx Bad|HTTP/1.1 20 Short|HTTP/1.1 2000 Long|HTTP/1.1|"
    b"HTTP/3.14 200 OK|HTTP/1.1  200 OK"
).split(b"|")
HEADERS = (
    b"no colon|: no name|space : before colon|Folded: a\r\n b|NUL: \0|Bare-CR: a\rb: c|(Host): x|"
    b"Content-Length: 1x|Content-Length: -1|Content-Length:|Content-Length: 99999999999999999999|"
    b"Content-Length: 1\r\nContent-Length: 1|Content-Length: 1\r\nTransfer-Encoding: chunked|"
    b"Transfer-Encoding: gzip|Connection: close\r\nContent-Length: 1"
).split(b"|")
CHUNKS = b"x||-1|ffffffffffffffffff|1\r\nab|1 \r\na|1;\0\r\na|0\r\nno colon\r\n".split(b"|")
MALFORMED = [line + b"\r\n\r\n" for line in LINES]
MALFORMED += [b"POST / HTTP/1.1\r\n%b\r\n\r\n0123456789" % header for header in HEADERS]
MALFORMED += [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % c for c in CHUNKS]
REFERENCE = {}
NO_URLS = (
    b" x h:80 http:// http://h:99999/ http://h:/ http://h#f /\0 http://[::1 http://u@v@h/".split(
        b" "
    )
)
NO_URLS += [b"/a b", b"/" + b"a" * 65535]


def prepare():
    """Make connections, and see what comes of what is malformed, while there is one thread."""
    CONNECTIONS.extend(Connection(random.Random(f"{SEED}/{n}")) for n in range(100))
    for wire in MALFORMED:
        REFERENCE[wire] = refusal(random.Random(SEED), wire, [wire])
        if not issubclass(REFERENCE[wire][0], httptools.HttpParserError):
            print(f"not run: {wire!r} is not malformed: {REFERENCE[wire]}")
            sys.exit(NOT_RUN)


KINDS = [
    connections,
    upgrades,
    malformed,
    raising,
    handing_over,
    short_lived_threads,
    cycles,
    urls,
]
