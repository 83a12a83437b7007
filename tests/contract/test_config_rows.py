"""Python and the core judge every configuration alike.

Both read the rows of config_rows.json (the Go side in core/config_test.go). Rows that are generated here are judged by
the Go tests in a second process, so the two sides are also compared where nobody thought of a row.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from velithon_proxy import TLS, Breaker, Health, Limits, Retry, Timeouts
from velithon_proxy._errors import ConfigurationError, InvalidTargetError
from velithon_proxy._options import pool_config
from velithon_proxy._targets import parse_target

ROOT = Path(__file__).parents[2]
ROWS: dict[str, Any] = json.loads(Path(__file__).with_name("config_rows.json").read_text("utf-8"))


@pytest.mark.parametrize("row", ROWS["targets"], ids=lambda row: ascii(row["given"])[:40])
def test_a_target_means_what_it_means_to_the_core(row: dict[str, Any]) -> None:
    assert judge_target(row["given"]) == row_without_id(row)


@pytest.mark.parametrize("row", ROWS["configs"], ids=lambda row: json.dumps(row["config"])[:60])
def test_a_configuration_means_what_it_means_to_the_core(row: dict[str, Any]) -> None:
    if row.get("unknown"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{row['refused']}'"):
            pool_config(**row["config"])
        return
    if "refused" in row:
        with pytest.raises(ConfigurationError, match=row.get("because")) as caught:
            pool_config(**row["config"])
        assert caught.value.field == row["refused"]
        assert str(caught.value).startswith(row["refused"])
        return
    crossing = json.loads(pool_config(**row["config"]))
    assert crossing.items() <= row["normalised"].items()
    assert ROWS["defaults"] | crossing == ROWS["defaults"] | row["normalised"]


def test_the_defaults_in_signatures_are_those_of_the_core() -> None:
    from velithon_proxy import ProxyClient, ProxyLoadBalancer

    parameters = inspect.signature(ProxyClient).parameters
    balancer = inspect.signature(ProxyLoadBalancer).parameters
    shown = {name: parameters[name].default for name in ROWS["defaults"] if name in parameters}
    assert set(shown) >= {"timeout_ms", "max_retries", "max_failures", "recovery_timeout_ms"}
    assert shown == {name: balancer[name].default for name in shown}
    assert balancer["strategy"].default == ROWS["defaults"]["strategy"]
    shown = {name: value for name, value in shown.items() if value is not None}  # None is the core's default
    assert shown == {name: ROWS["defaults"][name] for name in shown}


@pytest.mark.parametrize(
    "option", [Timeouts(), Limits(), TLS(), Retry(), Breaker(), Health()], ids=lambda option: type(option).__name__
)
def test_the_defaults_of_option_classes_are_those_of_the_core(option: Any) -> None:
    members = option.config()
    assert members
    assert members == {name: ROWS["defaults"][name] for name in members}


@pytest.mark.slow
def test_generated_rows_are_judged_alike_by_the_core(tmp_path: Path) -> None:
    go = shutil.which(os.environ.get("VELITHON_PROXY_GO", "go"))
    if go is None:
        pytest.skip("needs the Go toolchain; VELITHON_PROXY_GO names the go command")
    source = random.Random(20250611)
    targets = [judge_target(generate_target(source)) for _ in range(20_000)]
    accepted = sum("refused" not in row for row in targets)
    assert 2_000 < accepted < 18_000, "the generator no longer makes both kinds of rows"
    rows = {
        "defaults": ROWS["defaults"],
        "targets": targets,
        "configs": [judge_config(generate_config(source)) for _ in range(5_000)],
    }
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), "utf-8")
    result = subprocess.run(
        [go, "test", "-count=1", "-run", "^(TestConfigurationRows|TestTargetRows)$", "-v", "./core"],
        cwd=ROOT,
        env=os.environ | {"VELITHON_PROXY_CONFIG_ROWS": str(path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert "--- PASS: TestConfigurationRows" in result.stdout
    assert "--- PASS: TestTargetRows" in result.stdout


def row_without_id(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "id"}


def judge_target(given: str) -> dict[str, Any]:
    """The row for a target as the rules of Python have it."""
    try:
        target = parse_target(given, argument="targets", scheme_required=False)
    except InvalidTargetError as error:
        return {"given": given, "refused": str(error).partition(" is not a usable URL: ")[2]}
    return {"given": given, "scheme": target.scheme, "host": target.host, "address": target.address}


def judge_config(config: dict[str, Any]) -> dict[str, Any]:
    """The row for a configuration with at most one fault."""
    try:
        crossing = json.loads(pool_config(**config))
    except ConfigurationError as error:
        return {"config": config, "refused": error.field}
    return {"config": config, "normalised": crossing}


PARTS = [
    *("http://", "https://", "HTTP://", "ftp://", "://", "//", "http:", "unix:", "a+b.c-1://"),
    *("a", "B", "example.com", "host_1", "xn--a", "x" * 63, "x" * 64, "-", ".", "..", "_"),
    *("127.0.0.1", "127.1", "256.0.0.1", "1.2.3.4.5", "01.2.3.4", "0x7f", "0X", "1", "12345678901"),
    *("[", "]", "[::1]", "[::]", "[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7::]", "[::ffff:1.2.3.4]", "[::1.2.3]", "::1"),
    *("[1::2:3:4:5:6:7:8]", "[12345::]", "[::g]", "[:1]", "[1:]", "[fe80::1%eth0]", "[::ffff:01.2.3.4]", "[0::0::0]"),
    *(":", ":80", ":0", ":65535", ":65536", ":080", ":+1", ":x", ":99999", ":123456"),
    *(
        "/",
        "?",
        "#",
        "@",
        "\\",
        "%",
        "'",
        '"',
        "*",
        ",",
        "~",
        "\u007f",
        " ",
        "\n",
        "\u0000",
        "\u00e9",
        "\u3002",
        "\ud800",
    ),
]
FIELDS = ["timeout_ms", "max_retries", "max_failures", "recovery_timeout_ms", "strategy", "targets"]
MORE = [
    *("weights", "backups", "hash_on", "slow_start_ms", "panic_threshold", "retry_statuses", "retry_methods"),
    *("retry_budget", "try_timeout_ms", "breaker_statuses", "breaker_ratio", "health_url", "health_expected"),
    *("health_host", "health_headers", "health_jitter", "health_timeout_ms"),
]
ODD: list[Any] = [
    *([503], [200], ["PUT"], ["POST"], [1], [0], [-1], [1, 1], [5], [None], ["http://b"], ["http://a"], ["b"]),
    *([[200, 299]], [[299, 200]], [[200]], [["x-a", "b"]], [["x a", "b"]], [["a", "b\n"]], [["host", "x"]], [["a"]]),
    *("key", "header:a", "header:", "cookie:b", "/", "/a?b", "/a b", "/a#b", "https://", "ftp://a/", "//a", "a/"),
    *("http://a", "http://a/", "http://a?b", "http://a:1/x", "http://u@a/x", "http://[::1]/x", "a:1", "[::1]:2", "a b"),
    *(0.5, 0.51, 1.0, 1.5, -0.5),
]
HOSTS = ["a", "Example.COM", "my_host", "a.b.c.", "127.0.0.1", "[::1]", "[2001:DB8::1]", "0xg", "1.a", "a.1a"]


def generate_target(source: random.Random) -> str:
    if source.random() < 0.5:
        return "".join(source.choices(PARTS, k=source.randint(1, 5)))
    scheme = source.choice(["", "http://", "https://", "Http://"])
    port = source.choice(["", f":{source.randint(1, 65535)}", f":{source.randint(0, 99_999)}"])
    given = scheme + source.choice(HOSTS) + port + source.choice(["", "/"])
    if source.random() < 0.4:  # one change anywhere
        at = source.randrange(len(given) + 1)
        given = given[:at] + source.choice(PARTS) + given[at + source.randint(0, 1) :]
    return given


def generate_config(source: random.Random) -> dict[str, Any]:
    config: dict[str, Any] = {"targets": ["http://a"]}
    field = source.choice(
        ["timeout_ms", "max_retries", "max_failures", "recovery_timeout_ms", "strategy", "targets", *MORE]
    )
    if field == "targets":
        config[field] = [generate_target(source) for _ in range(source.randint(0, 3))]
    else:
        size = 2 ** source.randint(0, 70)
        config[field] = source.choice(
            [
                *(source.randint(0, 12), source.randint(-size, size), 86_400_000 + source.randint(-1, 1)),
                *(2**31 + source.randint(-2, 1), None, True, False, source.random() * size, str(size), [1], {}, []),
                *("single", "random", "Random", "weighted", "", "\u00e9", *ODD),
            ]
        )
    return config
