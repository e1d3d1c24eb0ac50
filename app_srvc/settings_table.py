"""The table of settings: what there is, what each takes, and what it is for.

A field's name in lower case is the variable's name in capitals. `docs/configuration.md` is made
from this table (`python -m app_srvc.settings_doc`), so a description is written for whoever sets
the variable. What makes a single value good stands in `settings_values.py`, and what two values
must agree on in `settings_rules.py`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app_srvc import settings_values

MIB = 1024 * 1024

HostName = Annotated[str, AfterValidator(settings_values.check_host)]
QueueName = Annotated[str, AfterValidator(settings_values.check_queue_name)]
Port = Annotated[int, Field(ge=1, le=65535)]
Token = Annotated[SecretStr, AfterValidator(settings_values.check_token)]
GunicornArguments = Annotated[str, AfterValidator(settings_values.check_gunicorn_args)]
ModuleName = Annotated[str, AfterValidator(settings_values.check_module)]
ScriptName = Annotated[str, AfterValidator(settings_values.check_script)]
RedisUrl = Annotated[SecretStr, AfterValidator(settings_values.check_redis_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(settings_values.check_database_url)]
SourceUrl = Annotated[str, AfterValidator(settings_values.check_source_url)]
Folder = Annotated[Path, AfterValidator(Path.absolute)]
Processes = Annotated[int, Field(ge=1, le=256)]


def setting(default: Any, section: str, description: str, unit: str = "", **limits: Any) -> Any:
    """Declare one field with what its documentation needs."""
    extra: Any = {"section": section, "unit": unit}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class SettingsTable(BaseSettings):
    """The fields. Use `Settings`, which adds how they are read and what follows from them."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    host: HostName = setting(
        "127.0.0.1",
        "Web",
        "Address that the web part listens on. Any other than a loopback address needs "
        "`SECRET_KEY` and `API_TOKEN`.",
    )
    port: Port = setting(8080, "Web", "Port that the web part listens on.")
    web_processes: Processes = setting(2, "Web", "How many web processes `app-srvc web` starts.")
    secret_key: SecretStr | None = setting(
        None,
        "Web",
        "Signs sessions and forms; the same in every web process. Make one with `python -c "
        "'import secrets; print(secrets.token_hex(32))'`.",
    )
    api_token: Token | None = setting(
        None,
        "Web",
        "What callers send as `Authorization: Bearer`. Without it, and on a loopback address "
        "only, everything is open.",
    )
    max_body_bytes: int = setting(
        MIB,
        "Web",
        "Largest request body that is taken; a larger one is answered with 413.",
        "bytes",
        ge=1024,
        le=1024 * MIB,
    )
    app_title: str = setting(
        "app-srvc",
        "Web",
        "The name that pages and `/api/health` show.",
        min_length=1,
        max_length=100,
    )
    gunicorn_cmd_args: GunicornArguments = setting(
        "",
        "Web",
        "Gunicorn's own variable. It is read here only to learn the addresses after `--bind`:"
        " they count like `HOST`.",
    )
    app_module: ModuleName = setting(
        "app_srvc.webapp",
        "Web",
        "In the image: the Python module that gunicorn serves, and after a colon its object, "
        "if that is not `application`.",
    )
    health_port: Port | None = setting(
        None,
        "Web",
        "Port on which each worker answers `/health/live`, `/health/ready` and "
        "`/health/started`; none if unset.",
    )

    redis_url: RedisUrl | None = setting(
        None,
        "Redis",
        "`redis://`, `rediss://` (TLS, always verified), `unix://` or "
        "`redis+sentinel://host:port,host:port/service/db` (`rediss+sentinel://` for TLS). Stronger "
        "than `RDS_*`. `REDISTOGO_URL` is another name for it. With no Redis set, an embedded Valkey under "
        "`DATA_DIR` is used.",
    )
    rds_host: HostName | None = setting(None, "Redis", "Host of Redis.")
    rds_port: Port = setting(6379, "Redis", "Port of Redis.")
    rds_user: str | None = setting(
        None,
        "Redis",
        "User of Redis, where it has users of its own (ACL); the default user if unset.",
        min_length=1,
        max_length=100,
    )
    rds_psw: SecretStr | None = setting(None, "Redis", "Password of Redis.")

    database_url: DatabaseUrl | None = setting(
        None,
        "Database",
        "`postgresql://user:password@host:port/name` (several hosts may be given, with "
        "commas; add `?target_session_attrs=read-write`) or `sqlite:///path`. Stronger than `PG_*`. "
        "With no database set, a SQLite file under `DATA_DIR` is used.",
    )
    pg_host: HostName | None = setting(None, "Database", "Host of PostgreSQL.")
    pg_port: Port = setting(5432, "Database", "Port of PostgreSQL.")
    pg_user: str | None = setting(None, "Database", "User of PostgreSQL.")
    pg_psw: SecretStr | None = setting(None, "Database", "Password of PostgreSQL.")
    pg_db: str = setting(
        "tododb", "Database", "Name of the PostgreSQL database.", min_length=1, max_length=63
    )
    data_dir: Folder = setting(
        Path(".data"),
        "Database",
        "Folder of the embedded Valkey and of the SQLite file; made if it is missing.",
    )
    db_upgrade_at_start: bool = setting(
        True,
        "Database",
        "Whether each part brings the schema up to date at its start. If not, it waits until "
        "`app-srvc db upgrade` has done so, and needs no right to make tables.",
    )
    legacy_database_url: DatabaseUrl | None = setting(
        None,
        "Database",
        "For `app-srvc db import-legacy`: the PostgreSQL database that has the prototype's table "
        "`test.rusrs`, if it is another one than the service's own.",
    )
    retention_days: int = setting(
        30, "Database", "How long messages that have ended are kept.", "days", ge=1, le=3650
    )

    rdsq_usrreg: QueueName = setting("QUE_USRREG", "Queues", "Queue of registrations.")
    rdsq_robot: QueueName = setting("QUE_ROBOT", "Queues", "Queue of robot cycles.")
    rdsq_outmsg: QueueName = setting(
        "QUE_OUTMSG", "Queues", "Queue of fetched records and of `/api/sendmsg`."
    )
    rdsq_tasks: QueueName = setting(
        "QUE_TASKS", "Queues", "Queue of photos, word counts, reports, notifications and events."
    )

    app_file: ScriptName | None = setting(
        None,
        "Workers",
        "In the image: the script of the worker that this container is, such as "
        "`usrregworker.py`. The web part if unset.",
    )
    usrreg_processes: Processes = setting(1, "Workers", "Processes that `usrregworker.py` starts.")
    robot_processes: Processes = setting(1, "Workers", "Processes that `dbworker.py` starts.")
    todo_processes: Processes = setting(2, "Workers", "Processes that `todoworker.py` starts.")
    task_processes: Processes = setting(1, "Workers", "Processes that `taskworker.py` starts.")
    job_result_ttl_s: int = setting(
        60,
        "Workers",
        "How long Redis keeps a job that is done; the ledger keeps the message.",
        "seconds",
        ge=1,
        le=31_536_000,
    )
    job_failure_ttl_s: int = setting(
        86_400,
        "Workers",
        "How long Redis keeps a job that has failed; the ledger keeps the message.",
        "seconds",
        ge=1,
        le=31_536_000,
    )
    unknown_kind_grace_s: int = setting(
        600,
        "Workers",
        "How long a message of a kind that no worker knows may wait before an alert is raised.",
        "seconds",
        ge=1,
        le=31_536_000,
    )

    source_url: SourceUrl | None = setting(
        None,
        "Robot",
        "Web service that the robot `todos` reads, such as "
        "`https://gorest.co.in/public/v2/todos`, or `demo:` for the demo source, which "
        "`app-srvc up` uses if unset.",
    )
    source_token: Token | None = setting(
        None, "Robot", "Sent to the source as `Authorization: Bearer`."
    )
    source_timeout_s: float = setting(
        10.0,
        "Robot",
        "How long the source may take to connect, and then to send more.",
        "seconds",
        gt=0,
        le=300,
        allow_inf_nan=False,
    )
    source_page_size: int = setting(
        100, "Robot", "Records asked for in one page.", "records", ge=1, le=10_000
    )
    source_max_bytes: int = setting(
        10 * MIB, "Robot", "Largest page that is read.", "bytes", ge=1024, le=1024 * MIB
    )
    robot_min_timedelta_s: int = setting(
        1,
        "Robot",
        "Smallest `timedelta` that a robot may be started with.",
        "seconds",
        ge=1,
        le=31_536_000,
    )
    robot_max_timedelta_s: int = setting(
        86_400,
        "Robot",
        "Largest `timedelta` that a robot may be started with.",
        "seconds",
        ge=1,
        le=31_536_000,
    )
    robot_min_records: int = setting(
        1,
        "Robot",
        "Smallest `records` that a robot may be started with.",
        "records",
        ge=1,
        le=1_000_000,
    )
    robot_max_records: int = setting(
        10_000,
        "Robot",
        "Largest `records` that a robot may be started with.",
        "records",
        ge=1,
        le=1_000_000,
    )

    log_format: Literal["auto", "json", "console"] = setting(
        "auto",
        "Logs",
        "`json`: one object a line; `console`: for reading; `auto`: `console` on a terminal, "
        "else `json`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Logs", "The least important event that is written."
    )

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
