"""Every setting, in one frozen value; the only reader of the environment."""

import os
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from app_srvc import settings_rules, settings_values
from app_srvc.errors import ConfigurationError
from app_srvc.settings_rules import Part
from app_srvc.settings_table import SettingsTable


class Settings(SettingsTable):
    """What the operator chose. Made once, by `from_env`, and passed down."""

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
        user = quote(self.rds_user or "", safe="")
        password = f":{quote(self.rds_psw.get_secret_value(), safe='')}" if self.rds_psw else ""
        who = f"{user}{password}@" if user or password else ""
        host = settings_values.bracketed(self.rds_host)
        return SecretStr(f"redis://{who}{host}:{self.rds_port}/0")

    @property
    def effective_database_url(self) -> SecretStr:
        """Where the ledger is, in SQLAlchemy's form."""
        if self.database_url is not None:
            return SecretStr(settings_values.sqlalchemy_url(self.database_url.get_secret_value()))
        if self.pg_host is None:
            return SecretStr(f"sqlite:///{quote(str(self.data_dir / 'ledger.db'))}")
        user = quote(self.pg_user or "", safe="")
        password = f":{quote(self.pg_psw.get_secret_value(), safe='')}" if self.pg_psw else ""
        host = f"{settings_values.bracketed(self.pg_host)}:{self.pg_port}"
        return SecretStr(
            f"postgresql+psycopg://{user}{password}@{host}/{quote(self.pg_db, safe='')}"
        )

    @property
    def effective_legacy_url(self) -> SecretStr:
        """Where the prototype's table of users is: in the ledger's own database, if nothing is said."""
        if self.legacy_database_url is None:
            return self.effective_database_url
        return SecretStr(
            settings_values.sqlalchemy_url(self.legacy_database_url.get_secret_value())
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

    def __init__(self, settings_cls: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environ = environ
        self.conflicts: list[str] = []

    @staticmethod
    def aliases(field_name: str) -> tuple[str, ...]:
        """Return the other names that a setting has."""
        return ("REDISTOGO_URL",) if field_name == "redis_url" else ()

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        names = (field_name.upper(), *self.aliases(field_name))
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
