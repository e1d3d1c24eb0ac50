"""The page of todos."""

from flask import Blueprint, render_template

from app_srvc.pages import cut, requested_window
from app_srvc.todos import store
from app_srvc.web import current_web

blueprint = Blueprint("todos", __name__)


@blueprint.get("/todos/")
def todos() -> str:
    """Todos from the highest id on, a page at a time."""
    window = requested_window()
    rows = current_web().read(
        lambda session: store.list_todos(session, before_id=window.before, limit=window.limit + 1)
    )
    return render_template("todos/todos.html", page=cut(rows, window, lambda row: row.id))
