"""Alembic's environment for `alembic upgrade head` and `resources.postgres.schema.upgrade`.

The database is DATABASE_URL or the embedded server. Its connections see only our schema, which also contains the
version table.
"""

from contextlib import nullcontext

from alembic import context

from resources.postgres.database import LOCK, Database
from resources.postgres.own_schema import VERSION_TABLE
from resources.postgres.schema import is_ours
from resources.postgres.schemas import make_schemas
from resources.settings import get_settings
from resources.tables import METADATA

KEY = 0x697274  # lock: a second upgrade at the same time waits, and then has nothing to do

database = context.config.attributes.get("database") or Database(get_settings())
make_schemas(database)
engine = database.engine()
try:
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            version_table=VERSION_TABLE,
            include_object=is_ours,
            compare_server_default=True,
        )
        with context.begin_transaction():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})", (KEY,))
            with context.config.attributes.get("guard", nullcontext)(connection):
                context.run_migrations()
            if revision := context.get_context().get_current_revision():
                oldest_code = context.script.get_revision(revision).module.oldest_code
                connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET oldest_code = %s", (oldest_code,))
finally:
    engine.dispose()
