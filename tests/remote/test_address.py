"""What is an address, and how it is shown: secrets never, all else as it was."""

import pytest

from zeroshot_cli.remote.address import (
    host_of,
    is_address,
    is_elsewhere,
    is_hidden,
    mistyped,
    row_in,
    scheme_of,
    shown_address,
    shown_in,
)


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("https://a.org/x.jpg", "https"),
        ("S3://bucket/x", "s3"),
        ("hf://datasets/a/b/c.png", "hf"),
        ("file:///a.jpg", None),
        ("a/b.jpg", None),
        ("c:/photos/a.jpg", None),
        ("c://a.jpg", None),
        ("a.jpg?https://b.org", None),
        ("./http://a", None),
    ],
)
def test_schemes(text: str, scheme: str | None) -> None:
    assert scheme_of(text) == scheme
    assert is_address(text) == (scheme is not None)


SHOWN = [
    ("https://a.org/x.jpg", "https://a.org/x.jpg"),
    ("https://me:pass@a.org/x.jpg", "https://***@a.org/x.jpg"),
    ("https://token@a.org/x@2.jpg", "https://***@a.org/x@2.jpg"),
    ("https://a.org/x@2.jpg?size=3&page=4", "https://a.org/x@2.jpg?size=3&page=4"),
    ("https://a.org/?u=b@c.org", "https://a.org/?u=b@c.org"),
    (
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=AK%2F1&X-Amz-Date=2026&X-Amz-Signature=ff&X-Amz-Security-Token=t",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Date=2026&X-Amz-Signature=***&X-Amz-Security-Token=***",
    ),
    ("https://c.blob.net/x?sv=2024&sig=a%2B&se=1", "https://c.blob.net/x?sv=2024&sig=***&se=1"),
    ("https://s.com/x?X-Goog-Signature=1&GoogleAccessId=me", "https://s.com/x?X-Goog-Signature=***&GoogleAccessId=me"),
    (
        "https://a.org/x?AWSAccessKeyId=A&Signature=B&Expires=9",
        "https://a.org/x?AWSAccessKeyId=***&Signature=***&Expires=9",
    ),
    ("https://a.org/x?access_token=A;api_key=B&apikey=C", "https://a.org/x?access_token=***;api_key=***&apikey=***"),
    ("https://a.org/x?%74oken=A&TOKEN=B&accessToken=C", "https://a.org/x?%74oken=***&TOKEN=***&accessToken=***"),
    ("https://a.org/x#access_token=A&b=C", "https://a.org/x#access_token=***&b=C"),
    ("https://a.org/x?monkey=1&tokens=2&design=3", "https://a.org/x?monkey=1&tokens=2&design=3"),
    (
        "https://a.org/x?authkey=A&accesskeyid=B&sessiontoken=C",
        "https://a.org/x?authkey=***&accesskeyid=***&sessiontoken=***",
    ),
    ("https://a.org/x.jsp;jsessionid=A?b=C", "https://a.org/x.jsp;jsessionid=***"),
    ("https://me:pa#ss@a.org/x@2.jpg", "https://***@a.org/x@2.jpg"),  # a password that should be percent-encoded
    ("s3://ID:pa/ss@bucket/x", "s3://***@bucket/x"),
    ("https://a.org:8080/@me/x.jpg", "https://a.org:8080/@me/x.jpg"),
    ("https://[::1]:8080/@me/x.jpg", "https://[::1]:8080/@me/x.jpg"),
    ("https://a.org:/@me", "https://a.org:/@me"),
    ("sftp://me:pass@host/x", "sftp://***@host/x"),
    ("me:pass@a.org/x?token=A", "me:pass@a.org/x?token=A"),  # a path
]


@pytest.mark.parametrize(("address", "shown"), SHOWN, ids=range(len(SHOWN)))
def test_secrets_are_not_shown(address: str, shown: str) -> None:
    assert shown_address(address) == shown
    assert shown_address(shown) == shown
    assert is_hidden(shown) == (shown != address)
    assert shown_in(f"cannot connect to '{address}', says it") == f"cannot connect to '{shown}', says it"


def test_a_signature_renewed_is_the_same_image() -> None:
    first, second = (f"https://a.org/x?X-Amz-Signature={value}" for value in ("a", "b"))
    assert shown_address(first) == shown_address(second)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("http:/a.org/x", "http://a.org/x"),
        ("https:a.org", "https://a.org"),
        ("s3:/bucket/x", "s3://bucket/x"),
        ("S3:/b", "s3://b"),
        ("http://a.org", None),
        ("notes:3.jpg", None),
        ("http:", None),
    ],
)
def test_a_slash_that_is_missing(text: str, meant: str | None) -> None:
    assert mistyped(text) == meant


def test_hosts() -> None:
    assert host_of("https://me:pass@a.org:8080/x?y#z") == "a.org:8080"
    assert host_of("s3://bucket/key/more") == "bucket"


def test_rows_of_parquet() -> None:
    assert row_in("a/b.parquet#17") == ("a/b.parquet", 17)
    assert row_in("s3://b/a.PQ#0") == ("s3://b/a.PQ", 0)
    assert row_in("https://a.org/a.parquet?sig=A&b=c.d#3") == ("https://a.org/a.parquet?sig=A&b=c.d", 3)
    assert row_in("a.gif#17") is None
    assert row_in("a.parquet#x") is None
    assert is_elsewhere("a.parquet#1")
    assert not is_elsewhere("a.gif#1")
