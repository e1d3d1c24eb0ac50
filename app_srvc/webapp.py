"""`application`, for gunicorn and the original's `APP_MODULE`. Importing it reads the settings."""

import sys

from app_srvc.app import create_app
from app_srvc.errors import ConfigurationError
from app_srvc.health import prepare_ledger_in_background
from app_srvc.logs import configure_logs
from app_srvc.settings import Settings

# Gunicorn ends, and does not start its workers again and again, when one exits with this at its start.
GUNICORN_BOOT_ERROR = 3

try:
    settings = Settings.from_env(part="web")
    configure_logs(settings)
    application = create_app(settings)
except ConfigurationError as error:
    sys.stderr.write("".join(f"app-srvc: {problem}\n" for problem in error.problems))
    sys.exit(GUNICORN_BOOT_ERROR)

prepare_ledger_in_background(application)
