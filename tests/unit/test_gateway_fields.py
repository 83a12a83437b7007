"""What a gateway adds to, and takes from, the header lines that pass it.

Rows R2 to R6, R28, R29, C11, C13 to C15, C22 and C33.
"""

from __future__ import annotations

from typing import Any

import pytest

from velithon_proxy import ConfigurationError
from velithon_proxy.middleware._answers import Refusal
from velithon_proxy.middleware._fields import FieldRules, Lines, Peer
from velithon_proxy.middleware._trust import TrustedProxies, read_address

PEER = Peer("192.0.2.7", "http", "shop.example:8080")
OWN = [
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-host", "shop.example:8080"),
    ("x-forwarded-port", "8080"),
    ("via", "1.1 velithon-proxy"),
]


def forwarded(
    *lines: tuple[str, str], method: str = "GET", peer: Peer = PEER, prefix: str = "", **options: Any
) -> Lines:
    return FieldRules(prefix=prefix, **options).request(method, list(lines), peer)


def test_the_client_is_told_of() -> None:
    assert forwarded(("a", "1"), ("a", "2")) == [("a", "1"), ("a", "2"), *OWN]
    assert forwarded(peer=Peer(None, "https", "h")) == [
        ("x-forwarded-proto", "https"), ("x-forwarded-host", "h"), ("x-forwarded-port", "443"),
        ("via", "1.1 velithon-proxy"),
    ]  # fmt: skip
    assert ("x-forwarded-prefix", "/api") in forwarded(prefix="/api")


STRANGE = (
    *("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"),
    *("x-real-ip", "forwarded", "x_forwarded_for", "x-forwarded_host", "content_length", "transfer_encoding"),
)


@pytest.mark.parametrize("name", STRANGE)
def test_what_a_stranger_says_of_himself_is_dropped(name: str) -> None:
    assert forwarded((name, "evil"), ("cookie_x", "kept")) == [("cookie_x", "kept"), *OWN]


def test_a_trusted_proxy_is_believed() -> None:
    lines = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer.example"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "203.0.113.9"),
    ]
    got = dict(forwarded(*lines, trusted_proxies=["192.0.2.0/24"]))
    assert got["x-forwarded-for"] == "203.0.113.9, 10.0.0.1, 192.0.2.7"
    assert got["x-forwarded-proto"] == "https"
    assert got["x-forwarded-host"] == "outer.example"
    assert got["x-forwarded-port"] == "443"
    assert got["x-real-ip"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("said", "port"),
    [
        ({"proto": "https", "host": "example.com"}, "443"),
        ({"proto": "HTTPS", "host": "example.com"}, "443"),
        ({"proto": "http", "host": "example.com"}, "80"),
        ({"proto": "wss", "host": "example.com"}, "443"),
        ({"proto": "https", "host": "example.com:8443"}, "8443"),
        ({"proto": "https", "host": "[2001:db8::1]"}, "443"),
        ({"proto": "https", "host": "[2001:db8::1]:8443"}, "8443"),
        ({"proto": "https", "host": "example.com:"}, "443"),
        ({"proto": "https", "host": "example.com:99999999"}, "443"),
        ({"proto": "https", "host": "2001:db8::1"}, "443"),  # without brackets it has no port that anyone could tell
        ({"proto": "https", "host": "a.example:8443, b.example:9"}, "8443"),
        ({"proto": "https, http", "host": "a.example, b.example:9"}, "443"),
        ({"host": "example.com"}, "80"),
        ({"proto": "https"}, "8080"),  # the host is that of the request then, and the port is the host's
        ({"proto": "https", "host": "example.com", "port": "444"}, "444"),
    ],
)
def test_a_port_that_no_proxy_says_fits_what_it_says(said: dict[str, str], port: str) -> None:
    lines = [(f"x-forwarded-{name}", value) for name, value in said.items()]
    got = forwarded(*lines, trusted_proxies=["192.0.2.0/24"])
    assert [value for name, value in got if name == "x-forwarded-port"] == [port]
    assert dict(forwarded(*lines))["x-forwarded-port"] == "8080"


def test_connection_cannot_take_our_fields_away() -> None:
    got = forwarded(
        ("connection", "X-Forwarded-For, x-secret, Host, Content-Length, Authorization, close"),
        ("x-secret", "1"), ("authorization", "a"), ("host", "h"), ("content-length", "3"), ("x-kept", "2"),
    )  # fmt: skip
    assert got == [("host", "h"), ("x-kept", "2"), *OWN]


def test_expectations() -> None:
    assert forwarded(("expect", "100-Continue")) == OWN
    for other in ("200-ok", "y 100-continue", ""):
        with pytest.raises(Refusal) as raised:
            forwarded(("expect", other))
        assert raised.value.status == 417


def test_a_request_that_comes_back_again_and_again_is_a_loop() -> None:
    assert forwarded(("via", "1.0 fred, 1.1 velithon-proxy"))[-1] == (
        "via", "1.0 fred, 1.1 velithon-proxy, 1.1 velithon-proxy",
    )  # fmt: skip
    with pytest.raises(Refusal) as raised:
        forwarded(*[("via", "1.1 velithon-proxy")] * 10)
    assert raised.value.status == 508
    assert forwarded(("via", "1.1 a"), via=None)[-1] == ("via", "1.1 a")
    assert forwarded(via="edge-1")[-1] == ("via", "1.1 edge-1")


OTHERS = [
    *("1.1 velithon-proxy-{n}", "1.1 my-velithon-proxy", "1.1 velithon-proxy.example", "1.1 velithon-proxy:80"),
    *("1.1 x velithon-proxy", "1.1 x (velithon-proxy)", "1.1 x (of velithon-proxy, by name)", "velithon-proxy"),
    *("velithon-proxy x", "1.1/velithon-proxy x", "1.1velithon-proxy", "1.1 velithon-proxy/1"),
]


@pytest.mark.parametrize("other", OTHERS)
def test_other_names_that_hold_this_one_are_no_loop(other: str) -> None:
    via = ", ".join(other.replace("{n}", str(n)) for n in range(20))
    assert forwarded(("via", via))[-1] == ("via", f"{via}, 1.1 velithon-proxy")


@pytest.mark.parametrize(
    "own",
    ["1.1 velithon-proxy", "HTTP/1.1 velithon-proxy", "2\tvelithon-proxy", "1.1  velithon-proxy (with a comment)",
     "1.0 x, 1.1 velithon-proxy", "1.1 velithon-proxy,, ", "1.1 velithon-proxy, 1.0 x (an open end"],
)  # fmt: skip
def test_a_loop_is_known_by_the_name_alone(own: str) -> None:
    """RFC 9110 section 7.6.3. What a client opens and does not close hides nothing that comes after it."""
    assert forwarded(("via", ",".join([own] * 9)))[-1][0] == "via"
    for lines in ([("via", ",".join([own] * 10))], [("via", own)] * 10):
        with pytest.raises(Refusal) as raised:
            forwarded(*lines)
        assert raised.value.status == 508


@pytest.mark.parametrize(
    ("given", "sent"),
    [("0000000001", "0"), ("00000000000000000010", "9"), ("1000000000", "999999999"), ("9" * 5000, "999999999"),
     ("\u0661", "\u0661"), ("-1", "-1"), ("1.5", "1.5"), ("", "")],
)  # fmt: skip
def test_max_forwards_is_a_number_of_any_length(given: str, sent: str) -> None:
    """RFC 9110 section 7.6.2: digits, at least one; above what is supported, the largest that is."""
    assert ("max-forwards", sent) in forwarded(("max-forwards", given), method="OPTIONS")
    for none in ("0", "0" * 20):
        with pytest.raises(Refusal) as raised:
            forwarded(("max-forwards", none), method="OPTIONS")
        assert raised.value.status == 405


def test_max_forwards_counts_for_options() -> None:
    assert ("max-forwards", "4") in forwarded(("max-forwards", "5"), method="OPTIONS")
    assert ("max-forwards", "5") in forwarded(("max-forwards", "5"))
    with pytest.raises(Refusal):
        forwarded(("max-forwards", "0"), method="OPTIONS")


def test_forwarded_by_option() -> None:
    assert dict(forwarded(forwarded=True))["forwarded"] == 'for=192.0.2.7;proto=http;host="shop.example:8080"'
    six = Peer("2001:db8::1", "http", "h")
    assert dict(forwarded(forwarded=True, peer=six))["forwarded"].startswith('for="[2001:db8::1]"')
    trusting: dict[str, Any] = {"forwarded": True, "trusted_proxies": "*"}
    good = dict(forwarded(("forwarded", "for=203.0.113.9;proto=https"), **trusting))["forwarded"]
    assert good.startswith("for=203.0.113.9;proto=https, for=192.0.2.7")
    for bad in ("for=[::1]", "for=a;;by=b", "by=[::1]", "nonsense", 'for="a'):
        assert dict(forwarded(("forwarded", bad), **trusting))["forwarded"].startswith("for=192.0.2.7")


def test_fields_by_wish() -> None:
    options: dict[str, Any] = {
        "add_request_headers": {"X-Tenant": "7", "Authorization": "Bearer x"},
        "remove_request_headers": ["Cookie"],
        "add_response_headers": [("X-Frame-Options", "DENY")],
        "remove_response_headers": {"server"},
    }
    got = forwarded(("cookie", "a"), ("authorization", "client"), ("b", "1"), **options)
    assert got == [("b", "1"), *OWN, ("x-tenant", "7"), ("authorization", "Bearer x")]
    rules = FieldRules(prefix="", **options)
    lines = [("Server", "x"), ("X-Frame-Options", "ALLOW"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]
    assert rules.response(lines) == [
        ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("x-frame-options", "DENY"), ("via", "1.1 velithon-proxy"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"trusted_proxies": ["10.0.0.0/33"]}, "trusted_proxies"),
        ({"trusted_proxies": [5]}, "trusted_proxies"),
        ({"trusted_proxies": 5}, "trusted_proxies"),
        ({"via": "a b"}, "via"),
        ({"via": 5}, "via"),
        ({"add_request_headers": {"a b": "c"}}, "add_request_headers"),
        ({"add_request_headers": {"a": "b\r\nc"}}, "add_request_headers"),
        ({"add_request_headers": {"Host": "a"}}, "add_request_headers"),
        ({"add_request_headers": {"Content-Length": "1"}}, "add_request_headers"),
        ({"add_request_headers": 5}, "add_request_headers"),
        ({"add_response_headers": {"Transfer-Encoding": "chunked"}}, "add_response_headers"),
        ({"remove_request_headers": "cookie"}, "remove_request_headers"),
        ({"remove_request_headers": ["a b"]}, "remove_request_headers"),
        ({"remove_response_headers": ["Content-Length"]}, "remove_response_headers"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        FieldRules(prefix="", **options)
    assert raised.value.field == field
    assert str(raised.value).startswith(field)


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ([], "10.0.0.1"),
        (["203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (["1.1.1.1, 203.0.113.9", "10.0.0.2"], "203.0.113.9"),
        (['1.2.3.4, , "x", 10.0.0.2'], "10.0.0.2"),
        (["[2001:db8::1]:80"], "2001:db8::1"),
        (["203.0.113.9:80"], "203.0.113.9"),
        (["x" * 10_000], "10.0.0.1"),
    ],
)
def test_the_client_is_the_rightmost_stranger(chain: list[str], client: str) -> None:
    trusted = TrustedProxies(["10.0.0.0/8"])
    assert trusted.client("10.0.0.1", chain) == client
    assert trusted.client("192.0.2.1", chain) == "192.0.2.1"


def test_addresses_are_read_or_not() -> None:
    assert str(read_address("::ffff:10.0.0.1")) == "10.0.0.1"
    assert str(read_address("[fe80::1%eth0]:80")) == "fe80::1"
    for bad in ("", "unknown", "_x", "1.2.3", "1.2.3.4.5", "999.1.1.1", "[::1"):
        read_address(bad)
    assert TrustedProxies("unix").trust(None)
    assert not TrustedProxies([]).trust(None)
    assert TrustedProxies("*").trust("203.0.113.9")


@pytest.mark.parametrize(
    ("given", "believed", "others"),
    [
        ("::ffff:127.0.0.0/104", ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"], ["128.0.0.1", "::1", "::7f00:1"]),
        ("::ffff:0:0/96", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", "2001:db8::1"]),
        ("::ffff:10.0.0.1", ["10.0.0.1", "::ffff:10.0.0.1"], ["10.0.0.2"]),
        ("::ffff:10.0.0.1/128", ["10.0.0.1"], ["10.0.0.0"]),
        ("10.0.0.0/8", ["::ffff:10.1.2.3"], ["::10.1.2.3"]),
        ("::/0", ["::1", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4"]),
    ],
)
def test_ipv4_in_ipv6_is_ipv4(given: str, believed: list[str], others: list[str]) -> None:
    """A socket for both writes IPv4 peers so (RFC 4291 section 2.5.5.2), whoever writes the list as well."""
    trusted = TrustedProxies([given])
    assert [trusted.trust(peer) for peer in (*believed, *others)] == [True] * len(believed) + [False] * len(others)
