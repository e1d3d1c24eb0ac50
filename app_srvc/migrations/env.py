"""Alembic's entry. The connection always comes from `app_srvc.migrations.migrate`."""

from alembic import context

from app_srvc.migrations import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
