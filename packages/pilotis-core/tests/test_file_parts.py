"""The parts of the file module that no provider can influence: checks, names, links, HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilotis.errors import InvalidInputError
from pilotis.modules.file import FileInfo, Link, Links
from pilotis.modules.file import checks as c
from pilotis.modules.file.links import read_link
from pilotis.modules.file.names import clean_filename, key_of
from pilotis.modules.file.serving.http import disposition, requested_range

# Checks


@given(st.text(max_size=50))
def test_keys_that_pass_are_safe(text: str) -> None:
    """A key that passes the check has no segment that leads elsewhere, whatever the text."""
    try:
        key = c.check_key(text)
    except InvalidInputError:
        return
    assert text == key
    assert not {"", ".", ".."} & set(key.split("/"))
    assert not set("\\\0\r\n") & set(key)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/.", "a/..", "."])
def test_prefixes_may_be_cut_anywhere(prefix: str) -> None:
    """A prefix may end in the middle of a segment."""
    assert prefix == c.check_prefix(prefix)


@pytest.mark.parametrize("prefix", ["/a", "../a", "a//b", "a/../b", "a\0", "a\\b", 5, None])
def test_prefixes_that_no_key_begins_with(prefix: object) -> None:
    """A prefix that no key can begin with is refused by name."""
    with pytest.raises(InvalidInputError, match="prefix: expected"):
        c.check_prefix(prefix)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/report.PDF", "application/pdf"),
        ("a.json", "application/json"),
        ("report.csv.gz", "application/gzip"),
        ("no-ending", "application/octet-stream"),
        ("a.pdf/plain", "application/octet-stream"),
        ("http:x.png", "image/png"),
    ],
)
def test_guessed_types(name: str, expected: str) -> None:
    """The ending of the last segment decides the type, and what is packed is what it is packed as."""
    assert expected == c.guess_content_type(name)


@pytest.mark.parametrize("value", ["text/html\r\nX: y", "text", "", "/", "a/b;", 5, "text/ü", 'a/b; c="d"e'])
def test_types_that_are_none(value: object) -> None:
    """What is no media type, or would break out of its header, is refused."""
    with pytest.raises(InvalidInputError, match="content_type: expected"):
        c.check_content_type(value)


@pytest.mark.parametrize("value", ["text/html; charset=utf-8", "image/svg+xml", 'a/b;c="d e"'])
def test_types_with_parameters(value: str) -> None:
    """Parameters belong to the type."""
    assert value == c.check_content_type(value)


@pytest.mark.parametrize(
    "value", [{"Name": "x"}, {"a b": "x"}, {"": "x"}, {"a": 5}, {"a": "x\n"}, {1: "x"}, "text", {"a": "x" * 2048}]
)
def test_metadata_that_cannot_be_kept(value: object) -> None:
    """Metadata has lower-case names, printable text and a greatest size."""
    with pytest.raises(InvalidInputError, match="metadata"):
        c.check_metadata(value)


@pytest.mark.parametrize(("start", "end"), [(-1, None), (None, -1), (5, 4), (True, None), (1.5, None), ("1", None)])
def test_ranges_that_are_none(start: object, end: object) -> None:
    """A range has whole numbers, none negative, and does not end before it starts."""
    with pytest.raises(InvalidInputError, match=r"^(start|end): expected"):
        c.check_range(start, end)


# Names


@given(st.text(max_size=300))
def test_keys_of_any_name(text: str) -> None:
    """Whatever the name: refused, or the key of it is one safe segment."""
    try:
        name = clean_filename(text)
    except InvalidInputError:
        return
    key = key_of(name, "01k0" * 6)
    assert key == c.check_key(key)
    assert "/" not in key
    assert name == clean_filename(name)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("Summer plan (final).pdf", "Summer-plan-final-ID.pdf"),
        ("C:\\fakepath\\photo.JPG", "photo-ID.JPG"),
        ("../../etc/passwd", "passwd-ID"),
        ("日本 語.txt", "日本-語-ID.txt"),
        (".bashrc", "bashrc-ID"),
        ("<script>.html", "script-ID.html"),
        ("???.txt", "txt-ID"),
        ("v1.2 of something", "v1.2-of-something-ID"),
    ],
)
def test_names_become_keys(filename: str, expected: str) -> None:
    """A key keeps what is safe of the name, and its ending."""
    assert expected == key_of(clean_filename(filename), "ID")


# Links

LINK = Link(method="PUT", key="a b/ä?#%.png", expires=123, content_type="image/png", max_size=5)


def test_links_are_read_as_they_were_made() -> None:
    """What a link says is found in its URL again, and its signature is good."""
    links = Links(b"secret", "https://shop.example/some files/")
    for link in (LINK, Link(method="GET", key="a", expires=1, download_as="x & y=z.txt")):
        parts = urlsplit(links.sign(link).url)
        found = read_link(link.method, link.key, parts.query)
        assert found is not None
        assert link == found[0]
        assert links.verify(*found)
    assert "/some files" == links.base


@given(
    st.builds(
        Link,
        method=st.sampled_from(["GET", "PUT"]),
        key=st.text(min_size=1),
        expires=st.integers(0, 10**12),
        download_as=st.none() | st.text(),
        content_type=st.none() | st.text(),
        max_size=st.none() | st.integers(0, 10**12),
    )
)
def test_a_signature_is_for_one_link(other: Link) -> None:
    """No other link, however alike, has the same signature; nor has another secret."""
    links = Links(b"secret", "/files")
    signature = links.sign(LINK).url.rpartition("signature=")[2]
    assert (other == LINK) == links.verify(other, signature)
    assert not Links(b"other", "/files").verify(LINK, signature)


@pytest.mark.parametrize(
    "query",
    [
        "", "expires=1&expires=2&signature=x", "expires=x&signature=x", "expires=-1&signature=x", "signature=x",
        "expires=1&max=x&signature=x", "expires=1&other=1&signature=x", "expires=%FF&signature=x",
        f"expires={'9' * 5000}&signature=x", "expires=٣&signature=x", "&" * 1000, "expires=1&signature=",
    ],
)  # fmt: skip
def test_queries_that_are_no_links(query: str) -> None:
    """A query that could not have been made here is none of ours, and never an error."""
    assert read_link("GET", "a", query) is None


# HTTP


def test_names_of_downloads_cannot_break_out() -> None:
    """A name with quotes and line ends stays inside its header."""
    shown = disposition('a"\r\nX: y\\.txt')
    assert "\r" not in shown
    assert "\n" not in shown
    assert 2 == shown.count('"')


@given(st.text() | st.from_regex(r"bytes=\d{0,30}-\d{0,30}", fullmatch=True), st.integers(0, 100))
def test_any_range_header_is_understood(header: str, size: int) -> None:
    """Whatever the header: no range, an empty one, or one inside the file."""
    info = FileInfo(
        key="a", size=size, content_type="a/b", etag="e", sha256=None, modified=datetime(2026, 1, 1, tzinfo=UTC)
    )
    found = requested_range({"range": header}, info)
    if found is not None and found[0] < found[1]:
        assert 0 <= found[0] < found[1] <= size
