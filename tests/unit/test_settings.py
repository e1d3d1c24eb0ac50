"""The settings: what is taken, what is refused, and how a refusal reads."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from app_srvc.errors import ConfigurationError
from app_srvc.settings import Settings
from app_srvc.settings_rules import Part

# What the original's templates give its web part.
OLD_WEB = {
    "APP_MODULE": "app_srvc.webapp",
    "GUNICORN_CMD_ARGS": (
        "--workers=1 --worker-connections=2000 --bind=0.0.0.0:8080 --access-logfile=-"
    ),
    "RDS_HOST": "redis",
    "RDS_PORT": "6379",
    "RDS_PSW": "22",
    "RDSQ_OUTMSG": "QUE_OUTMSG",
    "RDSQ_ROBOT": "QUE_ROBOT",
}
OLD_PG = {"PG_HOST": "postgresql", "PG_USER": "u", "PG_PSW": "p", "PG_DB": "tododb"}
KEY_AND_TOKEN = {"SECRET_KEY": "k" * 32, "API_TOKEN": "t" * 32}


def problems_of(environ: dict[str, str], part: Part = "cli") -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ, part)
    return caught.value.problems


def the_problem_of(**environ: str) -> str:
    (problem,) = problems_of(environ)
    return problem


def redis_of(**environ: str) -> str:
    url = Settings.from_env({"DATA_DIR": "/data", **environ}).effective_redis_url
    assert url is not None
    return url.get_secret_value()


def database_of(**environ: str) -> str:
    return Settings.from_env(environ).effective_database_url.get_secret_value()


# --- defaults -----------------------------------------------------------------------------------


def test_an_empty_environment_is_a_laptop_with_embedded_valkey_and_sqlite() -> None:
    settings = Settings.from_env({}, "web")
    assert settings.uses_embedded_redis
    assert settings.effective_redis_url is None
    assert settings.data_dir == Path.cwd() / ".data"
    assert (
        settings.effective_database_url.get_secret_value()
        == f"sqlite:///{Path.cwd()}/.data/ledger.db"
    )
    assert settings.is_loopback
    assert settings.queue_names == ("QUE_USRREG", "QUE_ROBOT", "QUE_OUTMSG", "QUE_TASKS")


def test_the_environment_of_the_process_is_read_when_no_other_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "1234")
    assert Settings.from_env().port == 1234
    assert Settings().port == 8080, "a value made directly must not see the shell around it"


def test_a_value_that_is_given_but_empty_counts_as_unset() -> None:
    settings = Settings.from_env({"RDS_HOST": "", "PORT": " ", "API_TOKEN": "", "DATABASE_URL": ""})
    assert settings == Settings.from_env({})


def test_settings_cannot_be_changed_or_misspelt() -> None:
    settings = Settings.from_env({})
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(prot=1)  # type: ignore[call-arg]


# --- Redis --------------------------------------------------------------------------------------


def test_the_original_names_make_a_redis_url_with_the_password_quoted() -> None:
    assert redis_of(RDS_HOST="redis") == "redis://redis:6379/0"
    assert (
        redis_of(RDS_HOST="::1", RDS_PORT="1", RDS_PSW="p@s/s:")
        == "redis://:p%40s%2Fs%3A@[::1]:1/0"
    )


def test_a_user_of_redis_goes_into_the_url_quoted() -> None:
    url = redis_of(RDS_HOST="redis", RDS_USER="web:1", RDS_PSW="p@s")
    assert url == "redis://web%3A1:p%40s@redis:6379/0"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h?ssl_ca_certs=/ca.pem", "begins with rediss://"),
        ("redis+sentinel://h/app?ssl_ca_certs=/ca.pem", "or rediss+sentinel://"),
        ("redis://h?sentinel_password=x", "URL of Sentinels"),
    ],
)
def test_an_option_that_the_kind_of_address_does_not_have_is_refused(
    url: str, expected: str
) -> None:
    (problem,) = problems_of({"REDIS_URL": url, "DATA_DIR": "/data"})
    assert expected in problem


def test_redis_url_is_stronger_than_the_original_names() -> None:
    assert redis_of(RDS_HOST="a", RDS_PSW="x", REDIS_URL="redis://b") == "redis://b"
    assert redis_of(REDISTOGO_URL="redis://c") == "redis://c"


def test_two_names_of_one_setting_with_different_values_are_named() -> None:
    environ = {"REDIS_URL": "redis://a", "REDISTOGO_URL": "redis://b", "DATA_DIR": "/data"}
    (problem,) = problems_of(environ)
    assert "REDIS_URL and REDISTOGO_URL" in problem
    assert redis_of(REDIS_URL="redis://a", REDISTOGO_URL="redis://a") == "redis://a"


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:pass@host:6380/2",
        "redis://[::1]:6379/0",
        "rediss://host:6380/0?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://a:26379,b:26379/service/0",
        "redis+sentinel://:pass@a/service",
    ],
)
def test_every_kind_of_redis_url_is_taken(url: str) -> None:
    assert redis_of(REDIS_URL=url) == url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("host:6379", "begins with redis://"),
        ("http://host", "begins with redis://"),
        ("redis://", "with a host"),
        ("redis://a,b", "one host"),
        ("redis://host:abc", "port from 1 to 65535"),
        ("redis://host:70000", "port from 1 to 65535"),
        ("redis://host/zero", "database is a number"),
        ("unix://relative.sock", "absolute path"),
        ("redis+sentinel://a:1,b:1", "with the service named"),
        ("redis+sentinel://a:1/service/x", "database is a number"),
        ("rediss://host?ssl_cert_reqs=none", "certificates are always verified"),
        ("redis://[::1", "begins with redis://"),
    ],
)
def test_a_redis_url_that_cannot_work_is_refused(url: str, expected: str) -> None:
    assert expected in the_problem_of(REDIS_URL=url, DATA_DIR="/data")


# --- database -----------------------------------------------------------------------------------


def test_the_original_names_make_a_database_url_with_the_parts_quoted() -> None:
    url = make_url(
        database_of(PG_HOST="pg", PG_PORT="5433", PG_USER="u@x", PG_PSW="p/w", PG_DB="d b")
    )
    assert (url.host, url.port, url.username, url.password, url.database) == (
        "pg",
        5433,
        "u@x",
        "p/w",
        "d b",
    )
    assert url.drivername == "postgresql+psycopg"
    assert make_url(database_of(PG_HOST="pg", PG_USER="u")).database == "tododb"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_name_of_postgresql_becomes_the_driver_that_is_installed(scheme: str) -> None:
    assert database_of(DATABASE_URL=f"{scheme}://u:p%40@h:1/d?sslmode=require") == (
        "postgresql+psycopg://u:p%40@h:1/d?sslmode=require"
    )


def test_a_database_url_with_several_hosts_keeps_them_all_for_the_driver() -> None:
    url = make_url(
        database_of(DATABASE_URL="postgresql://u:p@a:1,b/d?target_session_attrs=read-write")
    )
    assert url.query == {"host": ("a:1", "b:5432"), "target_session_attrs": "read-write"}
    assert (url.host, url.username, url.database) == (None, "u", "d")


def test_a_database_url_may_name_a_socket_folder_in_place_of_a_host() -> None:
    url = "postgresql+psycopg://postgres@/d?host=/run/postgresql"
    assert database_of(DATABASE_URL=url) == url


def test_a_data_folder_with_odd_names_is_the_one_that_is_used() -> None:
    assert make_url(database_of(DATA_DIR="/a b/50%?#")).database == "/a b/50%?#/ledger.db"


def test_database_url_is_stronger_than_the_original_names_and_these_than_the_data_folder() -> None:
    assert (
        database_of(DATABASE_URL="sqlite:////x.db", PG_HOST="h", PG_USER="u") == "sqlite:////x.db"
    )
    assert "@h:5432" in database_of(PG_HOST="h", PG_USER="u", DATA_DIR="/data")
    assert database_of(DATA_DIR="/data") == "sqlite:////data/ledger.db"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql://h/d", "begins with postgresql:// or sqlite:///"),
        ("postgresql+psycopg2://h/d", "begins with postgresql:// or sqlite:///"),
        ("postgresql://h", "ends with the name of a database"),
        ("postgresql:///d", "with a host"),
        ("postgresql://h:0/d", "port from 1 to 65535"),
        ("postgresql://h:1,h b/d", "host name or an IP address"),
        ("sqlite://", "path of a file"),
        ("sqlite:///:memory:", "path of a file"),
    ],
)
def test_a_database_url_that_cannot_work_is_refused(url: str, expected: str) -> None:
    assert expected in the_problem_of(DATABASE_URL=url)


# --- one value ----------------------------------------------------------------------------------


def test_a_refusal_names_what_was_expected_what_was_found_and_what_to_do() -> None:
    assert the_problem_of(RDS_PORT="abc", RDS_HOST="h", DATA_DIR="/d") == (
        "RDS_PORT must be a number from 1 to 65535, got 'abc'. Set it, or remove it to use 6379."
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PORT", "0", "a number from 1 to 65535"),
        ("HEALTH_PORT", "65536", "a number from 1 to 65535"),
        ("TODO_PROCESSES", "-1", "a number from 1 to 256"),
        ("SOURCE_TIMEOUT_S", "nan", "a number above 0 and at most 300"),
        ("SOURCE_TIMEOUT_S", "inf", "a number above 0 and at most 300"),
        ("MAX_BODY_BYTES", "1MB", "a number from 1024 to 1073741824"),
        ("RETENTION_DAYS", "1.5", "a number from 1 to 3650"),
        (
            "DB_UPGRADE_AT_START",
            "later",
            "true or false, got 'later'. Set it, or remove it to use true.",
        ),
        ("LEGACY_DATABASE_URL", "mysql://h/d", "begins with postgresql:// or sqlite:///"),
        ("LOG_FORMAT", "xml", "auto, json or console"),
        ("LOG_LEVEL", "LOUD", "debug, info, warning or error"),
        ("APP_TITLE", "x" * 101, "1 to 100 characters"),
        ("HOST", "http://x", "a host name or an IP address"),
        ("RDSQ_TASKS", "a b", "letters, digits"),
        ("RDSQ_TASKS", "QUE-high", "endings -high and -low"),
        ("SOURCE_URL", "ftp://x/", "begins with http:// or https://"),
        ("SOURCE_URL", "https://user:pw@x/", "without user and password"),
        ("GUNICORN_CMD_ARGS", "--bind '", "options of gunicorn"),
        ("GUNICORN_CMD_ARGS", "--bind", "options of gunicorn"),
    ],
)
def test_a_value_out_of_its_range_is_refused(name: str, value: str, expected: str) -> None:
    problem = the_problem_of(**{name: value})
    assert problem.startswith(f"{name} must be ") and expected in problem


@pytest.mark.parametrize(
    ("value", "is_on"), [("false", False), ("0", False), ("", True), ("yes", True)]
)
def test_a_switch_takes_the_usual_words(value: str, is_on: bool) -> None:
    assert Settings.from_env({"DB_UPGRADE_AT_START": value}).db_upgrade_at_start is is_on


def test_the_prototypes_table_is_looked_for_in_the_ledger_unless_another_place_is_named() -> None:
    ledger = {"DATABASE_URL": "postgresql://h/ledger"}
    same = Settings.from_env(ledger)
    assert same.effective_legacy_url == same.effective_database_url
    other = Settings.from_env({**ledger, "LEGACY_DATABASE_URL": "postgres://u:p@old/tododb"})
    assert other.effective_legacy_url.get_secret_value() == "postgresql+psycopg://u:p@old/tododb"


def test_every_number_has_a_range() -> None:
    for name, field in Settings.model_fields.items():
        is_number = any(kind in str(field.annotation) for kind in ("int", "float"))
        if is_number and "Secret" not in str(field.annotation):
            (problem,) = problems_of(
                {name.upper(): "-1", "RDS_HOST": "h", "PG_HOST": "h", "PG_USER": "u"}
            )
            assert problem.startswith(f"{name.upper()} must be a number ")


def test_all_that_is_wrong_is_named_at_once() -> None:
    found = problems_of(
        {"PORT": "x", "LOG_FORMAT": "xml", "RDS_HOST": "h", "PG_PSW": "p", "HOST": "0.0.0.0"}, "web"
    )
    assert [problem.split()[0] for problem in found] == [
        "PORT",
        "LOG_FORMAT",
        "RDS_HOST",
        "PG_PSW",
        "HOST",
    ]


SECRETS = (
    "SECRET_KEY",
    "API_TOKEN",
    "REDIS_URL",
    "RDS_PSW",
    "DATABASE_URL",
    "PG_PSW",
    "SOURCE_TOKEN",
)


@given(
    name=st.sampled_from(SECRETS), value=st.text("0123456789\n @:/?#[]%", min_size=8, max_size=40)
)
def test_a_secret_is_never_printed(name: str, value: str) -> None:
    value = f"hush{value}hush"
    try:
        text = repr(Settings.from_env({name: value}))
    except ConfigurationError as error:
        text = error.message
    assert "hush" not in text and value not in text


def test_a_token_with_a_line_end_is_refused_since_no_header_can_carry_it() -> None:
    assert "header" in the_problem_of(API_TOKEN="abc\n")


# --- two values ---------------------------------------------------------------------------------


def test_redis_without_a_database_is_refused_unless_a_data_folder_is_chosen() -> None:
    problem = the_problem_of(REDIS_URL="redis://h")
    assert "REDIS_URL is set, and no database is" in problem and "DATA_DIR" in problem
    settings = Settings.from_env({"REDIS_URL": "redis://h", "DATA_DIR": "/data"})
    assert settings.effective_database_url.get_secret_value() == "sqlite:////data/ledger.db"


def test_a_database_url_that_is_bad_is_not_also_called_missing() -> None:
    (problem,) = problems_of({"REDIS_URL": "redis://h", "DATABASE_URL": "x"})
    assert problem.startswith("DATABASE_URL must be")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"RDS_PSW": "x"}, "RDS_PSW is set, and RDS_HOST is not"),
        ({"RDS_HOST": "h", "RDS_USER": "u", "DATA_DIR": "/d"}, "RDS_PSW is not"),
        ({"PG_USER": "x", "PG_PSW": "x"}, "PG_USER and PG_PSW are set, and PG_HOST is not"),
        ({"PG_HOST": "h"}, "PG_USER is not"),
        (
            {"ROBOT_MIN_RECORDS": "9", "ROBOT_MAX_RECORDS": "8"},
            "ROBOT_MIN_RECORDS is 9 and ROBOT_MAX_RECORDS is 8",
        ),
        ({"ROBOT_MIN_TIMEDELTA_S": "86401"}, "ROBOT_MAX_TIMEDELTA_S is 86400"),
        ({"RDSQ_TASKS": "QUE_ROBOT"}, "RDSQ_ROBOT and RDSQ_TASKS name the same queue"),
        ({"SOURCE_TOKEN": "x"}, "SOURCE_TOKEN is set, and SOURCE_URL is not"),
    ],
)
def test_settings_that_contradict_are_named(environ: dict[str, str], expected: str) -> None:
    (problem,) = problems_of(environ)
    assert expected in problem


# --- who can connect ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"]
)
def test_on_a_loopback_address_neither_key_nor_token_is_needed(host: str) -> None:
    assert Settings.from_env({"HOST": host}, "web").is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_on_any_other_address_the_web_part_needs_a_key_and_a_token(host: str) -> None:
    (problem,) = problems_of({"HOST": host}, "web")
    assert problem.startswith("HOST binds") and "SECRET_KEY and API_TOKEN are not set" in problem
    (problem,) = problems_of({"HOST": host, "SECRET_KEY": "k"}, "web")
    assert "API_TOKEN is not set" in problem
    assert not Settings.from_env({"HOST": host, **KEY_AND_TOKEN}, "web").is_loopback


@pytest.mark.parametrize("part", ["worker", "cli"])
def test_workers_and_commands_bind_no_web_port_and_need_neither(part: Part) -> None:
    assert Settings.from_env({"HOST": "0.0.0.0"}, part).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("arguments", "is_loopback"),
    [
        ("--bind=0.0.0.0:8080", False),
        ("--bind 0.0.0.0:8080", False),
        ("-b 0.0.0.0", False),
        ("-b0.0.0.0:1", False),
        ("--workers 2 --bin [::]:1", False),
        ("--bind :8080", False),
        ("--bind fd://3", False),
        ("--bind 127.0.0.1:1 --bind 10.0.0.1:1", False),
        ("--bind 127.0.0.1:1 -b [::1]:1 -b unix:/run/x.sock -b tcp://localhost:1", True),
        ("--workers=1 --access-logfile=-", True),
    ],
)
def test_the_addresses_given_to_gunicorn_count_like_host(arguments: str, is_loopback: bool) -> None:
    environ = {"GUNICORN_CMD_ARGS": arguments}
    if is_loopback:
        assert Settings.from_env(environ, "web").is_loopback
    else:
        (problem,) = problems_of(environ, "web")
        assert problem.startswith("GUNICORN_CMD_ARGS binds")


def test_an_old_deployment_is_told_both_things_that_it_lacks_and_starts_with_them() -> None:
    database, token = problems_of(OLD_WEB, "web")
    assert "PG_HOST, PG_USER, PG_PSW and PG_DB" in database
    assert "SECRET_KEY and API_TOKEN" in token
    settings = Settings.from_env(OLD_WEB | OLD_PG | KEY_AND_TOKEN, "web")
    assert not settings.uses_embedded_redis and not settings.is_loopback


def test_an_old_worker_starts_as_it_is() -> None:
    environ = {k: v for k, v in OLD_WEB.items() if k != "GUNICORN_CMD_ARGS"} | OLD_PG
    assert Settings.from_env(environ, "worker").rds_host == "redis"
