"""Settings: where they come from, what is refused, what workers may see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isoruntime.environment import (
    CREDENTIALS,
    FC_VISIBLE,
    environment_for_workers,
)
from isoruntime.errors import InvalidSettings
from isoruntime.settings import DECLARED, GROUPS, Settings, on_fc, read_settings
from tests.tools import settings_table

# Names of interface.md, by attribute; a missing or renamed one is a broken promise.
VARIABLES = {
    "handler": "ISORUNTIME_HANDLER",
    "command": "ISORUNTIME_COMMAND",
    "upstream": "ISORUNTIME_UPSTREAM",
    "http": "ISORUNTIME_HTTP",
    "initializer": "ISORUNTIME_INITIALIZER",
    "pre_stop": "ISORUNTIME_PRE_STOP",
    "pre_freeze": "ISORUNTIME_PRE_FREEZE",
    "code_dir": "ISORUNTIME_CODE_DIR",
    "host": "ISORUNTIME_HOST",
    "port": "ISORUNTIME_PORT",
    "min_workers": "ISORUNTIME_MIN_WORKERS",
    "max_workers": "ISORUNTIME_MAX_WORKERS",
    "max_invocations": "ISORUNTIME_MAX_INVOCATIONS",
    "max_age_s": "ISORUNTIME_MAX_AGE",
    "timeout_s": "ISORUNTIME_TIMEOUT",
    "init_timeout_s": "ISORUNTIME_INIT_TIMEOUT",
    "memory_mb": "ISORUNTIME_MEMORY",
    "queue": "ISORUNTIME_QUEUE",
    "queue_timeout_s": "ISORUNTIME_QUEUE_TIMEOUT",
    "max_event_mb": "ISORUNTIME_MAX_EVENT",
    "max_response_mb": "ISORUNTIME_MAX_RESPONSE",
    "max_processes": "ISORUNTIME_MAX_PROCESSES",
    "sandbox": "ISORUNTIME_SANDBOX",
    "network": "ISORUNTIME_NETWORK",
    "env": "ISORUNTIME_ENV",
    # Beside the interface: whoever widens the walls has to be able to say how far.
    "allow_read": "ISORUNTIME_ALLOW_READ",
    "allow_write": "ISORUNTIME_ALLOW_WRITE",
    "preload": "ISORUNTIME_PRELOAD",
    "leftovers": "ISORUNTIME_LEFTOVERS",
    "errors": "ISORUNTIME_ERRORS",
    "error_details": "ISORUNTIME_ERROR_DETAILS",
    "log_format": "ISORUNTIME_LOG_FORMAT",
    "log_level": "ISORUNTIME_LOG_LEVEL",
    "drain_s": "ISORUNTIME_DRAIN",
    "reload": "ISORUNTIME_RELOAD",
    "gateway": "ISORUNTIME_GATEWAY",
    "key": "ISORUNTIME_KEY",
    "admin": "ISORUNTIME_ADMIN",
}


def problems(
    flags: dict[str, object] | None = None, environ: dict[str, str] | None = None
) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read_settings(flags or {}, environ or {})
    return list(caught.value.problems)


def test_every_setting_of_the_interface_is_declared_under_its_name() -> None:
    assert {each.name: each.variable for each in DECLARED} == VARIABLES
    assert {each.group for each in DECLARED} <= set(GROUPS)


def test_the_defaults_are_those_of_the_interface() -> None:
    settings = read_settings({}, {})
    assert {name: getattr(settings, name) for name in VARIABLES} == {
        "handler": "index.handler",
        "command": None,
        "upstream": None,
        "http": None,
        "initializer": None,
        "pre_stop": None,
        "pre_freeze": None,
        "code_dir": str(Path.cwd()),
        "host": "0.0.0.0",  # noqa: S104 - what the platform demands
        "port": 9000,
        "min_workers": 1,
        "max_workers": max(32, 4 * len(os.sched_getaffinity(0))),
        "max_invocations": 0,
        "max_age_s": 0.0,
        "timeout_s": 60.0,
        "init_timeout_s": 300.0,
        "memory_mb": 512,
        "queue": 100,
        "queue_timeout_s": 5.0,
        "max_event_mb": 32,
        "max_response_mb": 32,
        "max_processes": 64,
        "sandbox": "standard",
        "network": "host",
        "env": (),
        "allow_read": (),
        "allow_write": (),
        "preload": "auto",
        "leftovers": "kill",
        "errors": "fc",
        "error_details": "summary",
        "log_format": "fc",
        "log_level": "INFO",
        "drain_s": 30.0,
        "reload": False,
        "gateway": False,
        "key": None,
        "admin": None,
    }
    assert {settings.source(name) for name in VARIABLES} == {"default"}


@pytest.mark.parametrize(
    ("flags", "environ", "port", "source"),
    [
        pytest.param(
            {"port": "1"},
            {"ISORUNTIME_PORT": "2", "FC_CUSTOM_LISTEN_PORT": "3"},
            1,
            "--port",
            id="a flag wins over all",
        ),
        pytest.param(
            {},
            {"ISORUNTIME_PORT": "2", "FC_CUSTOM_LISTEN_PORT": "3"},
            2,
            "ISORUNTIME_PORT",
            id="our variable wins over the platform's",
        ),
        pytest.param(
            {},
            {"FC_SERVER_PORT": "4", "FC_CUSTOM_LISTEN_PORT": "3"},
            3,
            "FC_CUSTOM_LISTEN_PORT",
            id="the platform's first variable wins over its second",
        ),
        pytest.param(
            {}, {"FC_SERVER_PORT": "4"}, 4, "FC_SERVER_PORT", id="the older one counts"
        ),
        pytest.param(
            {},
            {"ISORUNTIME_PORT": "", "FC_CUSTOM_LISTEN_PORT": "3"},
            3,
            "FC_CUSTOM_LISTEN_PORT",
            id="an empty variable is not set",
        ),
        pytest.param(
            {},
            {"FC_CUSTOM_LISTEN_PORT": "none", "FC_SERVER_PORT": "4"},
            4,
            "FC_SERVER_PORT",
            id="an odd value of the platform's is passed over",
        ),
        pytest.param(
            {"port": "1"},
            {"ISORUNTIME_PORT": "x"},
            1,
            "--port",
            id="a bad variable does no harm under a good flag",
        ),
        pytest.param({"port": "0"}, {}, 0, "--port", id="0 is any port"),
    ],
)
def test_the_first_source_that_is_set_decides(
    flags: dict[str, object], environ: dict[str, str], port: int, source: str
) -> None:
    settings = read_settings(flags, environ)
    assert (settings.port, settings.source("port")) == (port, source)


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("FC_FUNCTION_MEMORY_SIZE", "abc", "memory_mb"),
        ("FC_FUNCTION_MEMORY_SIZE", "", "memory_mb"),
        ("FC_FUNCTION_MEMORY_SIZE", "0", "memory_mb"),
        ("FC_FUNCTION_MEMORY_SIZE", "-512", "memory_mb"),
        ("FC_CUSTOM_LISTEN_PORT", "0", "port"),
        ("FC_CUSTOM_LISTEN_PORT", "99999", "port"),
        ("FC_FUNCTION_HANDLER", "not-used", "handler"),
        ("FC_FUNCTION_HANDLER", "http://x.y/", "handler"),
        ("FC_INITIALIZER_HANDLER", "handler", "initializer"),
        ("FC_FUNC_CODE_PATH", "/there/is/no/such/place", "code_dir"),
        ("FC_SERVER_LOG_LEVEL", "loud", "log_level"),
    ],
)
def test_what_the_platform_sets_never_stops_the_start(
    variable: str, value: str, name: str
) -> None:
    settings = read_settings({}, {variable: value})
    assert settings.source(name) == "default"
    assert getattr(settings, name) == getattr(Settings(), name)


def test_what_the_platform_sets_is_used(tmp_path: Path) -> None:
    settings = read_settings(
        {},
        {
            "FC_FUNCTION_HANDLER": "a/b/main.go",
            "FC_INITIALIZER_HANDLER": "index.init",
            "FC_FUNC_CODE_PATH": f"{tmp_path}/",
            "FC_SERVER_LOG_LEVEL": "warn",
        },
    )
    assert settings.handler == "a/b/main.go"
    assert settings.initializer == "index.init"
    assert settings.code_dir == str(tmp_path)
    assert settings.log_level == "WARNING"


@pytest.mark.parametrize(
    ("function_mb", "worker_mb"),
    [("64", 64), ("80", 64), ("128", 96), ("256", 192), ("512", 448), ("32768", 32704)],
)
def test_the_front_end_keeps_a_part_of_the_functions_memory(
    function_mb: str, worker_mb: int
) -> None:
    settings = read_settings({}, {"FC_FUNCTION_MEMORY_SIZE": function_mb})
    assert settings.memory_mb == worker_mb


@pytest.mark.parametrize("told", ["128", "0"])
def test_memory_that_was_asked_for_is_taken_as_it_is(told: str) -> None:
    settings = read_settings({"memory_mb": told}, {})
    assert settings.memory_bytes == int(told) * 1024 * 1024


def test_megabytes_are_offered_as_bytes() -> None:
    settings = read_settings({"max_event_mb": "2", "max_response_mb": "3"}, {})
    assert settings.max_event_bytes == 2 * 1024 * 1024
    assert settings.max_response_bytes == 3 * 1024 * 1024


@pytest.mark.parametrize(
    "name", ["FC_INSTANCE_ID", "FC_FUNCTION_NAME", "FC_ACCOUNT_ID"]
)
def test_on_the_platform_its_own_timeout_is_not_cut_short(name: str) -> None:
    settings = read_settings({}, {name: "x"})
    assert settings.on_fc
    assert settings.timeout_s == 86400
    assert read_settings({"timeout_s": "3"}, {name: "x"}).timeout_s == 3
    assert not on_fc({name: ""})


def test_strict_means_no_network_unless_it_is_asked_for() -> None:
    assert read_settings({"sandbox": "strict"}, {}).network == "none"
    both = read_settings({"sandbox": "strict", "network": "host"}, {})
    assert both.network == "host"


def test_the_default_of_the_most_workers_makes_room_for_the_fewest() -> None:
    settings = read_settings({"min_workers": "900"}, {})
    assert settings.max_workers == 900


def test_fresh_is_short_for_one_invocation_per_worker() -> None:
    settings = read_settings({"fresh": True}, {"ISORUNTIME_MAX_INVOCATIONS": "7"})
    assert settings.max_invocations == 1
    assert settings.source("max_invocations") == "--fresh"
    agreed = read_settings({"fresh": True, "max_invocations": "1"}, {})
    assert agreed.max_invocations == 1


def test_variables_for_workers_are_gathered_from_every_flag() -> None:
    settings = read_settings({"env": ["A,B", "ALIBABA_CLOUD_CREDENTIALS", "A"]}, {})
    assert settings.env == ("A", "B", "ALIBABA_CLOUD_CREDENTIALS")
    assert read_settings({}, {"ISORUNTIME_ENV": "A, B,"}).env == ("A", "B")


def test_a_code_directory_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_settings({"code_dir": "code"}, {}).code_dir == str(tmp_path / "code")


def test_choices_and_levels_may_be_written_in_any_case() -> None:
    settings = read_settings({"sandbox": "Strict", "log_level": "debug"}, {})
    assert (settings.sandbox, settings.log_level) == ("strict", "DEBUG")


def test_an_ipv6_address_may_have_brackets() -> None:
    assert read_settings({"host": "[::1]"}, {}).host == "::1"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("port", "70000", "--port '70000' is too large: give a whole number from 0 to"),
        ("port", "-1", "--port '-1' is too small: "),
        ("port", "1_0", "--port '1_0' is not a whole number: "),
        ("port", "٣", "is not a whole number: "),
        ("port", "9" * 5000, "is too large: "),
        ("port", "8\n0", r"--port '8\n0' is not a whole number: "),
        ("port", "", "--port '' is not a whole number: "),
        ("port", None, "--port lacks its value: give --port N"),
        (
            "min_workers",
            "0",
            "--min-workers '0' is too small: give a whole number from 1",
        ),
        ("timeout_s", "0", "--timeout '0' leaves no time at all: "),
        ("timeout_s", "nan", "--timeout 'nan' is not a finite number: "),
        (
            "timeout_s",
            "30s",
            "is not a number of seconds: give seconds as a plain number",
        ),
        ("queue_timeout_s", "-5", "--queue-timeout '-5' is negative: "),
        ("drain_s", "1e99", "--drain '1e99' is more than a year: "),
        (
            "sandbox",
            "strickt",
            "did you mean strict? give one of off, standard, strict",
        ),
        ("log_level", "verbose", "give one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("host", "127.0.0.1:80", "holds a port: give that with --port"),
        ("host", "http://x", "is no address: "),
        ("handler", " ", "HANDLER ' ' is empty: "),
        ("handler", "a\0b.c", "holds a NUL byte: "),
        ("code_dir", "", "--code-dir '' is empty: "),
        ("code_dir", "/there/is/none", "--code-dir '/there/is/none' does not exist"),
        ("code_dir", __file__, "is not a directory: "),
        ("env", ["A=1"], "--env 'A=1' gives A a value: "),
        ("env", ["A", "accessKeyID"], "--env 'accessKeyID' would pass on accessKeyID"),
        ("env", ["ISORUNTIME_KEY"], "would pass on ISORUNTIME_KEY, which no worker"),
        ("env", [None], "--env lacks its value: give --env NAME"),
    ],
)
def test_a_bad_value_is_named_with_its_flag_and_the_way_out(
    name: str, value: object, problem: str
) -> None:
    (line,) = problems({name: value})
    assert problem in line
    assert "\n" not in line
    assert len(line) < 400


def test_a_bad_variable_is_named_as_it_was_written() -> None:
    (line,) = problems(environ={"ISORUNTIME_QUEUE": "many"})
    assert line.startswith("ISORUNTIME_QUEUE='many' is not a whole number: ")


def test_all_problems_are_told_at_once() -> None:
    lines = problems(
        {"port": "x", "min_workers": "5", "env": ["A=1", "securityToken"]},
        {
            "ISORUNTIME_MAX_WORKERS": "2",
            "ISORUNTIME_TIMEOUT": "soon",
            "ISORUNTIME_TIMEOUTS": "1",
        },
    )
    wanted = [
        "--port 'x'",
        "ISORUNTIME_TIMEOUT='soon'",
        "--env 'A=1'",
        "--env 'securityToken'",
        "ISORUNTIME_TIMEOUTS is no setting: did you mean ISORUNTIME_TIMEOUT?",
        "--min-workers 5 is more than ISORUNTIME_MAX_WORKERS=2",
    ]
    assert len(lines) == len(wanted)
    for line, start in zip(lines, wanted, strict=True):
        assert line.startswith(start)


def test_a_refused_value_causes_no_second_problem() -> None:
    lines = problems({"min_workers": "x", "max_invocations": "y", "fresh": True})
    assert len(lines) == 2


def test_fresh_and_another_number_of_invocations_contradict_each_other() -> None:
    (line,) = problems({"fresh": True, "max_invocations": "5"})
    assert line.startswith("--fresh")
    assert "--max-invocations 5" in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ISORUNTIME_RELOAD", "0"), ("ISORUNTIME_ADMIN", "off"), ("ISORUNTIME_KEY", "")],
)
def test_what_is_off_may_be_turned_off(variable: str, value: str) -> None:
    settings = read_settings({}, {variable: value})
    assert not getattr(settings, variable.removeprefix("ISORUNTIME_").lower())


def test_a_gateway_that_others_reach_demands_a_key() -> None:
    (line,) = problems({"gateway": True})
    assert line.startswith("--gateway would let everybody who reaches 0.0.0.0")
    assert "--host 127.0.0.1, or --key ID:SECRET" in line
    assert len(problems({"gateway": True, "host": "127.evil.example"})) == 1
    # Its key was given, and is what is wrong.
    assert len(problems({"gateway": True, "key": "abracadabra"})) == 1


@pytest.mark.parametrize(
    "flags",
    [{"host": "127.0.0.1"}, {"host": "localhost"}, {"host": "[::1]"}, {"key": "id:s"}],
    ids=str,
)
def test_a_gateway_that_is_closed_to_others_needs_no_more(
    flags: dict[str, object],
) -> None:
    assert read_settings({"gateway": True, **flags}, {}).gateway is True


def test_a_key_without_a_gateway_is_refused() -> None:
    (line,) = problems(environ={"ISORUNTIME_KEY": "id:secret"})
    assert line == "ISORUNTIME_KEY is the gateway's: give --gateway as well"


def test_an_admin_port_that_others_reach_demands_a_token() -> None:
    (line,) = problems({"admin": "0.0.0.0:9100"})
    assert "set ISORUNTIME_ADMIN_TOKEN" in line
    token = {"ISORUNTIME_ADMIN_TOKEN": "t"}
    settings = read_settings({"admin": "0.0.0.0:9100"}, token)
    assert settings.admin == ("0.0.0.0", 9100)  # noqa: S104 - what the token is for
    assert read_settings({"admin": "9100"}, {}).admin == ("127.0.0.1", 9100)


def test_a_manifest_counts_more_than_the_platform_and_less_than_the_operator() -> None:
    manifest = {"timeout_s": "7", "memory_mb": "64", "max_workers": "3"}
    environ = {"FC_FUNCTION_MEMORY_SIZE": "1024", "ISORUNTIME_MAX_WORKERS": "5"}
    settings = read_settings({"timeout_s": "9"}, environ, manifest)
    assert (settings.timeout_s, settings.memory_mb, settings.max_workers) == (9, 64, 5)
    assert settings.source("memory_mb") == "s.yaml"
    assert not settings.is_chosen("memory_mb")


def test_command_and_upstream_exclude_each_other() -> None:
    lines = problems({"command": ["ls"]}, {"ISORUNTIME_UPSTREAM": "node x.js"})
    assert lines[-1].startswith("--command and ISORUNTIME_UPSTREAM exclude each other")


def test_a_secret_is_not_shown_where_it_is_refused() -> None:
    (line,) = problems({"key": "abracadabra"})
    assert line.startswith("--key '***' is not a pair")


@pytest.mark.parametrize(
    "name",
    [
        "ISORUNTIME_PYTHON",
        "ISORUNTIME_ADMIN_TOKEN",
        "ISORUNTIME_TEST_SEED",
        "ISORUNTIME_CHAOS",
        "ISORUNTIME_DEADLINE_MS",
    ],
)
def test_variables_of_ours_that_are_no_settings_are_let_be(name: str) -> None:
    read_settings({}, {name: "1"})


def test_an_unknown_variable_that_is_empty_is_not_set() -> None:
    read_settings({}, {"ISORUNTIME_NONSENSE": ""})


def test_settings_cannot_be_changed() -> None:
    settings = Settings(port=1)
    with pytest.raises(AttributeError, match="read-only"):
        settings.port = 2  # type: ignore[misc]  # that is the point
    with pytest.raises(AttributeError):
        settings.prot = 2  # type: ignore[attr-defined]  # that is the point
    assert settings.port == 1


def test_settings_are_built_from_known_names_only() -> None:
    with pytest.raises(TypeError, match="prot"):
        Settings(prot=2)
    with pytest.raises(TypeError, match="prot"):
        read_settings({"prot": "2"}, {})
    with pytest.raises(KeyError):
        Settings().source("prot")


def test_the_settings_page_is_up_to_date() -> None:
    assert settings_table.PAGE.read_text(encoding="utf-8") == settings_table.page(), (
        "run python -m tests.tools.settings_table"
    )


@pytest.mark.parametrize(
    "module",
    ["argparse", "difflib", "json", "pathlib", "shlex", "shutil", "textwrap"],
)
def test_reading_good_settings_imports_little(module: str) -> None:
    # Cold start is part of the product; each of these costs about 2 ms.
    code = (
        "import sys; from isoruntime.settings import read_settings; "
        "read_settings({'port': '1'}, {'ISORUNTIME_MEMORY': '64'}); "
        f"sys.exit({module!r} in sys.modules)"
    )
    command = [sys.executable, "-S", "-c", code]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, check=False, cwd=root).returncode == 0


USERS = {
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "APP_MODE": "x",
    "PYTHONPATH": "y",
}


def test_workers_get_the_users_variables() -> None:
    assert environment_for_workers(USERS, (), on_fc=False) == (USERS, [])


@pytest.mark.parametrize("is_on_fc", [True, False])
@pytest.mark.parametrize(
    "name", [*sorted(CREDENTIALS), "ISORUNTIME_KEY", "ISORUNTIME_X"]
)
def test_workers_never_get_credentials_or_variables_of_ours(
    name: str, is_on_fc: bool
) -> None:
    environ = {**USERS, name: "secret"}
    assert environment_for_workers(environ, (name,), is_on_fc) == (USERS, [])


@pytest.mark.parametrize("is_on_fc", [True, False])
def test_workers_get_the_platforms_variables_that_the_built_in_runtime_leaves(
    is_on_fc: bool,
) -> None:
    visible = dict.fromkeys(FC_VISIBLE, "x")
    hidden = dict.fromkeys(["FC_SERVER_PORT", "_FC_LOG_FD", "FC_RUNTIME_API"], "x")
    given, withheld = environment_for_workers({**visible, **hidden}, (), is_on_fc)
    assert (given, withheld) == (visible, [])
    assert len(visible) == 12


def test_a_variable_of_the_platform_passes_when_it_is_allowed() -> None:
    given, _ = environment_for_workers(
        {"FC_SERVER_PORT": "1"}, ("FC_SERVER_PORT",), True
    )
    assert given == {"FC_SERVER_PORT": "1"}


SECRETIVE = (
    "AWS_SECRET",
    "github_token",
    "DB_PASSWORD",
    "MYSQL_PASSWD",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "SSH_PRIVATE_KEY",
    "OSS_ACCESS_KEY",
    "MY_API_KEY",
    "OPENAI_APIKEY",
)


@pytest.mark.parametrize("name", SECRETIVE)
def test_an_operators_secret_stays_behind_off_the_platform(name: str) -> None:
    assert environment_for_workers({name: "x"}, (), on_fc=False) == ({}, [name])


@pytest.mark.parametrize("name", SECRETIVE)
def test_a_users_secret_passes_on_the_platform_and_when_allowed(name: str) -> None:
    assert environment_for_workers({name: "x"}, (), on_fc=True) == ({name: "x"}, [])
    allowed = environment_for_workers({name: "x"}, (name,), on_fc=False)
    assert allowed == ({name: "x"}, [])
