"""Every setting, in one frozen value; the only reader of the environment.

A field's name in lower case is the variable's name in capitals. `docs/configuration.md` is made
from the fields below (`python -m app_srvc.settings_doc`), so a description is written for whoever
sets the variable. What makes a single value good stands in `settings_values.py`, and what two
values must agree on in `settings_rules.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app_srvc import settings_rules, settings_values
from app_srvc.errors import ConfigurationError
from app_srvc.settings_rules import Part

MIB = 1024 * 1024

HostName = Annotated[str, AfterValidator(settings_values.check_host)]
QueueName = Annotated[str, AfterValidator(settings_values.check_queue_name)]
Port = Annotated[int, Field(ge=1, le=65535)]
Token = Annotated[SecretStr, AfterValidator(settings_values.check_token)]
Processes = Annotated[int, Field(ge=1, le=256)]


def setting(default: Any, section: str, description: str, unit: str = "", **limits: Any) -> Any:
    """Declare one field with what its documentation needs."""
    extra: Any = {"section": section, "unit": unit}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Settings(BaseSettings):
    """What the operator chose. Made once, by `from_env`, and passed down."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    # fmt: off
    host: HostName = setting("127.0.0.1", "Web",
        "Address that the web part listens on. Any other than a loopback address needs `SECRET_KEY` and `API_TOKEN`.")
    port: Port = setting(8080, "Web", "Port that the web part listens on.")
    web_processes: Processes = setting(2, "Web", "How many web processes `app-srvc web` starts.")
    secret_key: SecretStr | None = setting(None, "Web",
        "Signs sessions and forms; the same in every web process. Make one with `python -c 'import secrets; print(secrets.token_hex(32))'`.")
    api_token: Token | None = setting(None, "Web",
        "What callers send as `Authorization: Bearer`. Without it, and on a loopback address only, everything is open.")
    max_body_bytes: int = setting(MIB, "Web", "Largest request body that is taken; a larger one is answered with 413.", "bytes", ge=1024, le=1024 * MIB)
    app_title: str = setting("app-srvc", "Web", "The name that pages and `/api/health` show.", min_length=1, max_length=100)
    gunicorn_cmd_args: Annotated[str, AfterValidator(settings_values.check_gunicorn_args)] = setting("", "Web",
        "Gunicorn's own variable. It is read here only to learn the addresses after `--bind`: they count like `HOST`.")
    health_port: Port | None = setting(None, "Web", "Port on which each worker answers `/health/live`, `/health/ready` and `/health/started`; none if unset.")

    redis_url: Annotated[SecretStr, AfterValidator(settings_values.check_redis_url)] | None = setting(None, "Redis",
        "`redis://`, `rediss://` (TLS, always verified), `unix://` or `redis+sentinel://host:port,host:port/service/db`. Stronger than `RDS_*`. `REDISTOGO_URL` is another name for it. "
        "With no Redis set, an embedded Valkey under `DATA_DIR` is used.")
    rds_host: HostName | None = setting(None, "Redis", "Host of Redis.")
    rds_port: Port = setting(6379, "Redis", "Port of Redis.")
    rds_psw: SecretStr | None = setting(None, "Redis", "Password of Redis.")

    database_url: Annotated[SecretStr, AfterValidator(settings_values.check_database_url)] | None = setting(None, "Database",
        "`postgresql://user:password@host:port/name` (several hosts may be given, with commas) or `sqlite:///path`. Stronger than `PG_*`. With no database set, a SQLite file under `DATA_DIR` is used.")
    pg_host: HostName | None = setting(None, "Database", "Host of PostgreSQL.")
    pg_port: Port = setting(5432, "Database", "Port of PostgreSQL.")
    pg_user: str | None = setting(None, "Database", "User of PostgreSQL.")
    pg_psw: SecretStr | None = setting(None, "Database", "Password of PostgreSQL.")
    pg_db: str = setting("tododb", "Database", "Name of the PostgreSQL database.", min_length=1, max_length=63)
    data_dir: Annotated[Path, AfterValidator(Path.absolute)] = setting(Path(".data"), "Database",
        "Folder of the embedded Valkey and of the SQLite file; made if it is missing.")
    retention_days: int = setting(30, "Database", "How long messages that have ended are kept.", "days", ge=1, le=3650)

    rdsq_usrreg: QueueName = setting("QUE_USRREG", "Queues", "Queue of registrations.")
    rdsq_robot: QueueName = setting("QUE_ROBOT", "Queues", "Queue of robot cycles.")
    rdsq_outmsg: QueueName = setting("QUE_OUTMSG", "Queues", "Queue of fetched records and of `/api/sendmsg`.")
    rdsq_tasks: QueueName = setting("QUE_TASKS", "Queues", "Queue of photos, word counts, reports, notifications and events.")

    usrreg_processes: Processes = setting(1, "Workers", "Processes that `usrregworker.py` starts.")
    robot_processes: Processes = setting(1, "Workers", "Processes that `dbworker.py` starts.")
    todo_processes: Processes = setting(2, "Workers", "Processes that `todoworker.py` starts.")
    task_processes: Processes = setting(1, "Workers", "Processes that `taskworker.py` starts.")
    job_result_ttl_s: int = setting(60, "Workers", "How long Redis keeps a job that is done; the ledger keeps the message.", "seconds", ge=1, le=31_536_000)
    job_failure_ttl_s: int = setting(86_400, "Workers", "How long Redis keeps a job that has failed; the ledger keeps the message.", "seconds", ge=1, le=31_536_000)
    unknown_kind_grace_s: int = setting(600, "Workers",
        "How long a message of a kind that no worker knows may wait before an alert is raised.", "seconds", ge=1, le=31_536_000)

    source_url: Annotated[str, AfterValidator(settings_values.check_source_url)] | None = setting(None, "Robot",
        "Web service that the robot `todos` reads, such as `https://gorest.co.in/public/v2/todos`. `app-srvc up` uses a demo source if unset.")
    source_token: Token | None = setting(None, "Robot", "Sent to the source as `Authorization: Bearer`.")
    source_timeout_s: float = setting(10.0, "Robot", "How long the source may take to connect, and then to send more.", "seconds", gt=0, le=300, allow_inf_nan=False)
    source_page_size: int = setting(100, "Robot", "Records asked for in one page.", "records", ge=1, le=10_000)
    source_max_bytes: int = setting(10 * MIB, "Robot", "Largest page that is read.", "bytes", ge=1024, le=1024 * MIB)
    robot_min_timedelta_s: int = setting(1, "Robot", "Smallest `timedelta` that a robot may be started with.", "seconds", ge=1, le=31_536_000)
    robot_max_timedelta_s: int = setting(86_400, "Robot", "Largest `timedelta` that a robot may be started with.", "seconds", ge=1, le=31_536_000)
    robot_min_records: int = setting(1, "Robot", "Smallest `records` that a robot may be started with.", "records", ge=1, le=1_000_000)
    robot_max_records: int = setting(10_000, "Robot", "Largest `records` that a robot may be started with.", "records", ge=1, le=1_000_000)

    log_format: Literal["auto", "json", "console"] = setting("auto", "Logs", "`json`: one object a line; `console`: for reading; `auto`: `console` on a terminal, else `json`.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Logs", "The least important event that is written.")
    # fmt: on

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is passed in: `Settings()` in a test must not see the shell around it."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, part: Part = "cli") -> Self:
        """Read the settings, or say everything that is wrong with them.

        A variable that is set and empty counts as unset. Only the web part is held to the rule
        that an address others can reach needs a key and a token, since only it binds one.

        Raises:
            ConfigurationError: One sentence in `problems` for each setting that cannot be used.
        """
        source = EnvironmentSource(cls, os.environ if environ is None else environ)
        given = source()
        settings, problems = cls._validated(given)
        problems += source.conflicts + settings_rules.problems(settings, set(given), part)
        if problems:
            raise ConfigurationError(problems)
        return settings

    @classmethod
    def _validated(cls, given: dict[str, Any]) -> tuple[Self, list[str]]:
        """Return settings from the values that are good, and a sentence for each that is not.

        The good ones are still needed: the rules between settings are checked on them, so that
        one start names every problem.
        """
        try:
            return cls(**given), []
        except ValidationError as error:
            problems = {str(one["loc"][0]): one for one in error.errors()}
            good = {name: value for name, value in given.items() if name not in problems}
            sentences = [
                settings_values.problem(name, cls.model_fields[name], one, given.get(name, ""))
                for name, one in problems.items()
            ]
            return cls(**good), sentences

    @property
    def uses_embedded_redis(self) -> bool:
        return self.redis_url is None and self.rds_host is None

    @property
    def effective_redis_url(self) -> SecretStr | None:
        """Where Redis is; None for the embedded one, whose address `EmbeddedValkey` knows."""
        if self.redis_url is not None or self.rds_host is None:
            return self.redis_url
        password = f":{quote(self.rds_psw.get_secret_value(), safe='')}@" if self.rds_psw else ""
        host = settings_values.bracketed(self.rds_host)
        return SecretStr(f"redis://{password}{host}:{self.rds_port}/0")

    @property
    def effective_database_url(self) -> SecretStr:
        """Where the ledger is, in SQLAlchemy's form."""
        if self.database_url is not None:
            return SecretStr(settings_values.sqlalchemy_url(self.database_url.get_secret_value()))
        if self.pg_host is None:
            return SecretStr(f"sqlite:///{self.data_dir / 'ledger.db'}")
        user = quote(self.pg_user or "", safe="")
        password = f":{quote(self.pg_psw.get_secret_value(), safe='')}" if self.pg_psw else ""
        host = f"{settings_values.bracketed(self.pg_host)}:{self.pg_port}"
        return SecretStr(
            f"postgresql+psycopg://{user}{password}@{host}/{quote(self.pg_db, safe='')}"
        )

    @property
    def bind_hosts(self) -> tuple[str, ...]:
        """Every address that the web part may be bound to: `HOST`, and those given to gunicorn."""
        return (self.host, *settings_values.gunicorn_hosts(self.gunicorn_cmd_args))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the web part."""
        return all(settings_values.is_loopback_host(host) for host in self.bind_hosts)

    @property
    def queue_names(self) -> tuple[str, ...]:
        return (self.rdsq_usrreg, self.rdsq_robot, self.rdsq_outmsg, self.rdsq_tasks)


class EnvironmentSource(PydanticBaseSettingsSource):
    """The variables of a mapping that are settings and not empty, by field name."""

    ALIASES: Mapping[str, tuple[str, ...]] = {"redis_url": ("REDISTOGO_URL",)}

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environ = environ
        self.conflicts: list[str] = []

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        names = (field_name.upper(), *self.ALIASES.get(field_name, ()))
        found = {name: self._environ[name] for name in names if self._environ.get(name, "").strip()}
        if len(set(found.values())) > 1:
            self.conflicts.append(
                f"{' and '.join(found)} are two names of one setting and have different values. "
                f"Remove one of them."
            )
        return next(iter(found.values()), None), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def environment() -> dict[str, str]:
    """Return a copy of the environment, for a program that passes it on to the one it becomes."""
    return dict(os.environ)
