# /// script
# requires-python = "==3.14.*"
# dependencies = ["httptools==0.7.1"]
#
# [tool.freewheel.probe]
# defect = "H0U"
# title = "parse_url() returns parts of a long URL that are not its parts"
# releases = "==0.7.1"
# use = "supported"
# passes = "every URL of 65,536 bytes or more is refused with HttpParserInvalidURLError"
# fails-by = ["wrong answer"]
# runs = { baseline = 10, patched = 30 }
# seconds = 60
# ///
"""H0U: parse_url() returns parts of a long URL that are not its parts.

Use:        any URL of 65,536 bytes or more, which a client can send. With the GIL and without;
            0.8.0 and later refuse such a URL.
Symptom:    of a path of 65,536 bytes nothing is left, of a longer one its beginning; what comes
            after it, a query or a host, is taken from 65,536 bytes before. What a proxy or a
            filter checked is not what the application gets.
Cause:      http_parser keeps offset and length of each part in 16 bits and drops the rest.

Shows:      URLs of up to 65,535 bytes, with one long part each, are parsed as they are (else this
            says nothing); longer ones must be refused.
"""

import sys

import httptools

WRONG_ANSWER, NOT_RUN = 3, 77  # docs/probes.md
LONGEST = (1 << 16) - 1
PARTS = ("schema", "host", "path", "query", "fragment", "userinfo")


def urls(length):
    """Return URLs of this length by name, with the parts they consist of."""
    path = {"path": b"/".ljust(length, b"p")}
    query = {"path": b"/".ljust(length - 4, b"p"), "query": b"q=1"}
    fragment = {"path": b"/p", "query": b"q".ljust(length - 5, b"q"), "fragment": b"f"}
    host = {"schema": b"http", "host": b"h".ljust(length - 9, b"h"), "path": b"/p"}
    user = {
        "schema": b"http",
        "userinfo": b"u".ljust(length - 15, b"u"),
        "host": b"h.test",
        "path": b"/",
    }
    return {
        "path": (path["path"], path),
        "query": (b"%(path)b?%(query)b" % to_bytes(query), query),
        "fragment": (b"%(path)b?%(query)b#%(fragment)b" % to_bytes(fragment), fragment),
        "host": (b"%(schema)b://%(host)b%(path)b" % to_bytes(host), host),
        "userinfo": (b"%(schema)b://%(userinfo)b@%(host)b%(path)b" % to_bytes(user), user),
    }


def to_bytes(parts):
    return {name.encode(): value for name, value in parts.items()}


def brief(value):
    return value if value is None or len(value) < 20 else f"{value[:8]}... of {len(value)}"


def parse(url):
    parsed = httptools.parse_url(url)
    return {part: value for part in PARTS if (value := getattr(parsed, part)) is not None}


def main():
    for length in (100, LONGEST - 1, LONGEST):
        for name, (url, parts) in urls(length).items():
            if len(url) != length or parse(url) != parts:
                print(f"H0U: a URL of {length} bytes with a long {name} is not parsed")
                return NOT_RUN

    problems = []
    for length in (LONGEST + 1, LONGEST + 2, LONGEST + 20, 3 * LONGEST):
        for name, (url, _) in urls(length).items():
            try:
                parsed = parse(url)
            except httptools.HttpParserInvalidURLError:
                continue
            found = {part: brief(value) for part, value in parsed.items()}
            problems.append(f"{length} bytes with a long {name}: {found}")
    print(f"H0U: {len(problems)} of 20 long URLs are parsed", *problems[-5:], sep="\nH0U: ")
    return WRONG_ANSWER if problems else 0


if __name__ == "__main__":
    sys.exit(main())
