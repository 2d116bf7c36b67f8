"""H3: feed_data() goes on reading a memoryview that a callback has released.

Releases:   httptools 0.7.1 to 0.9.0, with the GIL and without, in one thread or from another.
Use:        a memoryview is fed, and a callback, or another thread, releases it: say a server that
            gives its receive buffer back as soon as it has seen the URL.
Symptom:    headers that nobody sent, made of whatever is in the memory by then; a crash once it
            is unmapped. A view that was released before is read too.
Cause:      feed_data() reads through the memoryview's own Py_buffer without an export of its own,
            so nothing holds the view, or the memory below it.

Pass (0):   releasing the view, or resizing what it views, during feed_data() raises BufferError
            there and the parse is not affected; after it, with or without an exception, both
            work; a released view is refused.
Fail (1):   the view can be released during feed_data(), stays held after it, or is read although
            it was released before.
Not run (2): no httptools, or a view that nobody releases is not parsed as it should be.

The bytearray that is viewed keeps its size and stays alive: only its contents are overwritten, so
that the reading can be seen and does no harm.
"""

import sys
import threading

MEMORY = 4 << 30
WAIT = 20  # seconds; nothing here takes long

REQUEST = b"GET /sent HTTP/1.1\r\nHost: example.org\r\n\r\n"
SENT = {"urls": [b"/sent"], "headers": [(b"Host", b"example.org")]}


class NotRun(Exception):
    pass


class Stop(Exception):
    pass


class Protocol:
    def __init__(self, hook=None):
        self.urls = []
        self.headers = []
        self.hook = hook

    def on_url(self, url):
        self.urls.append(url)
        if self.hook:
            self.hook()

    def on_header(self, name, value):
        self.headers.append((name, value))

    def seen(self):
        return {"urls": self.urls, "headers": self.headers}


def elsewhere(function):
    """Call function in another thread and wait for it."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(WAIT)


def released_during(httptools, call, stop):
    """Release the view in on_url; return what is wrong."""
    memory = bytearray(REQUEST)
    view = memoryview(memory)
    outcomes = []

    def release():
        try:
            view.release()
        except BufferError:
            outcomes.append("BufferError")
        else:
            outcomes.append("released")
            memory[:] = memory.replace(b"example.org", b"other.owner")

    def hook():
        call(release)
        if stop:
            raise Stop

    protocol = Protocol(hook)
    parser = httptools.HttpRequestParser(protocol)
    try:
        parser.feed_data(view)
        stopped = False
    except httptools.HttpParserCallbackError as error:
        stopped = isinstance(error.__context__, Stop)
    if len(outcomes) != 1 or stopped != stop:
        raise NotRun(f"on_url did {outcomes}, stopped {stopped}")
    if outcomes != ["BufferError"]:
        return f"{outcomes[0]}; headers {protocol.headers}"
    if not stop and protocol.seen() != SENT:
        return f"callbacks {protocol.seen()}"
    try:
        view.release()
        memory.append(0)
    except BufferError as error:
        return f"held after feed_data(): {error}"
    return None


def released_before(httptools):
    memory = bytearray(REQUEST)
    view = memoryview(memory)
    view.release()
    protocol = Protocol()
    try:
        httptools.HttpRequestParser(protocol).feed_data(view)
    except ValueError:
        return None
    return f"read, callbacks {protocol.seen()}"


def main():
    import resource

    import httptools

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    parser.feed_data(memoryview(REQUEST)[:-2])
    parser.feed_data(memoryview(bytearray(REQUEST))[-2:])
    if protocol.seen() != SENT:
        raise NotRun(f"without a release: callbacks {protocol.seen()}")

    def here(function):
        function()

    outcomes = {
        "in a callback": released_during(httptools, here, False),
        "in a callback that raises": released_during(httptools, here, True),
        "in a thread": released_during(httptools, elsewhere, False),
        "before": released_before(httptools),
    }
    for what, outcome in outcomes.items():
        print(f"H3: released {what}: {outcome or 'refused'}")
    return 1 if any(outcomes.values()) else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        print(f"H3: could not run: {error!r}")
        status = 2
    sys.exit(status)
