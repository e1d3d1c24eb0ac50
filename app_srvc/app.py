"""The application: the only place where the web parts meet."""

from datetime import timedelta

from flask import Flask

from app_srvc import __version__, health, presentation
from app_srvc.auth import Credentials
from app_srvc.console import api as console_api
from app_srvc.console import views as console_views
from app_srvc.deadlines import BrokerCalls, LedgerCalls
from app_srvc.gate import Gate, LazySessions, RequestFrame
from app_srvc.http_errors import register_error_handlers
from app_srvc.inbox import api as inbox_api
from app_srvc.messages import api as messages_api
from app_srvc.messages.intake import Intake
from app_srvc.registration import api as registration_api
from app_srvc.registration import views as registration_views
from app_srvc.robots import api as robots_api
from app_srvc.robots import legacy_api as robots_legacy_api
from app_srvc.robots import views as robots_views
from app_srvc.runtime import Runtime, open_runtime
from app_srvc.settings import Settings
from app_srvc.todos import views as todos_views
from app_srvc.web import EXTENSION, Web

BLUEPRINTS = (
    health.blueprint,
    console_views.blueprint,
    console_api.blueprint,
    messages_api.blueprint,
    robots_api.blueprint,
    robots_legacy_api.blueprint,
    robots_views.blueprint,
    registration_views.blueprint,
    registration_api.blueprint,
    todos_views.blueprint,
    inbox_api.blueprint,
)


def create_app(settings: Settings, runtime: Runtime | None = None) -> Flask:
    """Make the application; nothing is connected until a request needs it.

    `runtime` is for whoever has one already, such as a test; else it is made from the settings.

    Raises:
        ConfigurationError: No Redis is set.
    """
    app = Flask(__name__)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=settings.max_body_bytes,
        # The addresses of static files carry the digest of their content.
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(days=365),
        SECRET_KEY=settings.secret_key.get_secret_value() if settings.secret_key else None,
        SESSION_COOKIE_NAME="app_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        # The forms' tokens live as long as the session that they belong to.
        WTF_CSRF_TIME_LIMIT=None,
    )
    app.session_interface = LazySessions()
    web = make_web(runtime or open_runtime(settings, caller="web"))
    app.extensions[EXTENSION] = web
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    register_error_handlers(app)
    presentation.prepare_templates(app, title=settings.app_title, version=__version__)
    app.before_request(Gate(app, web.credentials).check)
    app.wsgi_app = RequestFrame(app.wsgi_app)  # type: ignore[assignment, method-assign]
    return app


def make_web(runtime: Runtime) -> Web:
    broker = BrokerCalls()
    return Web(
        runtime=runtime,
        ledger=LedgerCalls(is_sqlite=runtime.database.is_sqlite),
        broker=broker,
        intake=Intake(runtime, broker),
        credentials=Credentials(runtime.settings),
    )
