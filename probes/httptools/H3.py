# /// script
# requires-python = ">=3.14"
# dependencies = ["httptools==0.9.0"]
#
# [tool.freewheel.probe]
# defect = "H3"
# title = "feed_data() goes on reading a memoryview that a callback has released"
# releases = "<=0.9.0"
# use = "misuse"
# passes = "a view cannot be released while it is fed, can be afterwards, and cannot be fed then"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H3: feed_data() goes on reading a memoryview that a callback has released.

Use:        a memoryview is fed, and a callback, or another thread, releases it, which is misuse:
            say a server that gives its receive buffer back as soon as it has seen the URL. With
            the GIL and without. Python's own types refuse it.
Symptom:    headers that nobody sent, made of whatever is in the memory by then; a crash once it
            is unmapped. A view that was released before is read too.
Cause:      feed_data() reads through the memoryview's own Py_buffer without an export of its own,
            so nothing holds the view, or the memory below it.

Shows:      a view is released before it is fed, or in a callback, which has to raise BufferError
            there and not to affect the parse. The bytearray that is viewed keeps its size and
            stays alive: only its contents are overwritten, so that the reading can be seen and
            does no harm. After feed_data() the view can be released and the bytearray resized.
"""

import sys
import threading

import httptools

WRONG_ANSWER, LEAK, NOT_RUN = 3, 4, 77  # docs/probes.md
REQUEST = b"GET /sent HTTP/1.1\r\nHost: example.org\r\n\r\n"
SENT = {"urls": [b"/sent"], "headers": [(b"Host", b"example.org")]}


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


def here(function):
    function()


def elsewhere(function):
    """Call function in another thread and wait for it."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def end(code, what):
    print(f"H3: {what}")
    sys.exit(code)


def release_before():
    memory = bytearray(REQUEST)
    view = memoryview(memory)
    view.release()
    protocol = Protocol()
    try:
        httptools.HttpRequestParser(protocol).feed_data(view)
    except ValueError:
        return
    end(WRONG_ANSWER, f"released before: read, callbacks {protocol.seen()}")


def release_during(call, stop):
    """Release the view in on_url."""
    memory = bytearray(REQUEST)
    view = memoryview(memory)
    outcomes = []

    def release():
        try:
            view.release()
        except BufferError:
            outcomes.append("refused")
        else:
            outcomes.append("released")
            memory[:] = memory.replace(b"example.org", b"other.owner")

    def hook():
        call(release)
        if stop:
            raise Stop

    where = f"{call.__name__}{', then raise' if stop else ''}"
    protocol = Protocol(hook)
    parser = httptools.HttpRequestParser(protocol)
    try:
        parser.feed_data(view)
        stopped = False
    except httptools.HttpParserCallbackError as error:
        stopped = isinstance(error.__context__, Stop)
    if len(outcomes) != 1 or stopped != stop:
        end(NOT_RUN, f"{where}: on_url did {outcomes}, stopped {stopped}")
    if outcomes != ["refused"] or not (stop or protocol.seen() == SENT):
        end(WRONG_ANSWER, f"{where}: {outcomes[0]}; callbacks {protocol.seen()}")
    try:
        view.release()
        memory.append(0)
    except BufferError as error:
        end(LEAK, f"{where}: held after feed_data(): {error}")


def main():
    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    parser.feed_data(memoryview(REQUEST)[:-2])
    parser.feed_data(memoryview(bytearray(REQUEST))[-2:])
    if protocol.seen() != SENT:
        end(NOT_RUN, f"without a release: callbacks {protocol.seen()}")
    release_during(here, stop=False)
    release_during(here, stop=True)
    release_during(elsewhere, stop=False)
    release_before()
    print("H3: releasing the view is refused during feed_data(), reading it after its release too")


if __name__ == "__main__":
    main()
