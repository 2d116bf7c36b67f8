"""H4: a parser can be re-initialised, and its leniencies changed, in the middle of a parse.

Releases:   httptools 0.7.1 to 0.9.0, with the GIL and without, in one thread or from another.
Use:        a callback, or another thread while a callback runs, calls parser.__init__() or
            parser.set_dangerous_leniencies().
Symptom:    the body of a request is parsed as a request of its own: the application sees a
            request that nobody sent. Rules that the message began under change within it.
Cause:      nothing keeps these calls out while feed_data() is running; llhttp goes on where it
            was, with the length, the flags and the header state of a parser that is new.

Pass (0):   while feed_data() runs, both are refused with RuntimeError and the parse goes on as
            if they had not been tried; before and after it, both work.
Fail (1):   one of them is accepted during a parse, or the callbacks are not those of the request.
Not run (2): no httptools, or the parser does not work without such a call.
"""

import sys
import threading

MEMORY = 4 << 30
WAIT = 20  # seconds; nothing here takes long

BODY = b"GET /smuggled HTTP/1.1\r\nHost: example.org\r\n\r\n"
REQUEST = (
    b"POST /sent HTTP/1.1\r\nContent-Length: %d\r\nHost: example.org\r\nConnection: keep-alive\r\n"
    b"\r\n%s" % (len(BODY), BODY)
)
EXPECTED = [("url", b"/sent"), ("body", BODY), ("complete",)]
RELAXED = b"GET /sent HTTP/1.1\r\nName: with\x0ba control character\r\n\r\n"


class NotRun(Exception):
    pass


class Protocol:
    def __init__(self):
        self.calls = []
        self.hook = None

    def on_url(self, url):
        self.calls.append(("url", url))

    def on_header(self, name, value):
        if self.hook and name == b"Content-Length":
            hook, self.hook = self.hook, None
            hook()

    def on_body(self, body):
        self.calls.append(("body", body))

    def on_message_complete(self):
        self.calls.append(("complete",))


def elsewhere(function):
    """Call function in another thread; return or raise what it does."""
    outcome = []

    def work():
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(WAIT)
    if not outcome:
        raise TimeoutError("the other thread is still waiting")
    result, error = outcome[0]
    if error:
        raise error
    return result


def outcome_of(httptools, change, call):
    """Change the parser in on_header; return what is wrong."""
    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    results = []

    def hook():
        try:
            call(lambda: change(parser, protocol))
        except BaseException as error:
            results.append(error)
        else:
            results.append(None)

    protocol.hook = hook
    try:
        parser.feed_data(REQUEST)
    except httptools.HttpParserError as error:
        return f"{error!r} for a valid request, after {protocol.calls}"
    if len(results) != 1:
        raise NotRun(f"the hook was called {len(results)} times")
    (result,) = results
    if protocol.calls != EXPECTED:
        return f"{'accepted' if result is None else repr(result)}; callbacks {protocol.calls}"
    if type(result) is not RuntimeError or not str(result):
        return "accepted" if result is None else f"refused with {result!r}"

    protocol.calls.clear()
    change(parser, protocol)
    parser.feed_data(REQUEST)
    if protocol.calls != EXPECTED:
        return f"after a change between messages: callbacks {protocol.calls}"
    return None


def initialise(parser, protocol):
    parser.__init__(protocol)


def set_leniencies(parser, protocol):
    parser.set_dangerous_leniencies(lenient_headers=True)


def is_accepted(httptools, parser, data):
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        return False
    return True


def main():
    import resource

    import httptools

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    protocol = Protocol()
    parser = httptools.HttpRequestParser(protocol)
    parser.feed_data(REQUEST)
    if protocol.calls != EXPECTED:
        raise NotRun(f"without a change: callbacks {protocol.calls}")
    strict, lenient = (httptools.HttpRequestParser(Protocol()) for _ in range(2))
    lenient.set_dangerous_leniencies(lenient_headers=True)
    if is_accepted(httptools, strict, RELAXED) or not is_accepted(httptools, lenient, RELAXED):
        raise NotRun("leniencies make no difference")

    outcomes = {
        f"{change.__name__} {where}": outcome_of(httptools, change, call)
        for change in (initialise, set_leniencies)
        for where, call in (("in a callback", lambda do: do()), ("in a thread", elsewhere))
    }
    for what, outcome in outcomes.items():
        print(f"H4: {what}: {outcome or 'refused'}")
    return 1 if any(outcomes.values()) else 0


if __name__ == "__main__":
    try:
        status = main()
    except Exception as error:
        print(f"H4: could not run: {error!r}")
        status = 2
    sys.exit(status)
