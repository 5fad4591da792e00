"""The services that a demo runs besides the Dagster UI, and an example of their use."""

import json
import secrets
import shlex

from pydantic import SecretStr

from irt_assets.servers.server_commands import Service
from resources.postgres.database import Database
from resources.settings import Settings, write_env_file


def services(settings: Settings) -> tuple[Settings, tuple[Service, ...]]:
    """The services of a demo, and settings with a token for the θ API. A missing token is created.

    Without a login anyone can decide in the dashboard, so the dashboard then runs only on the embedded database.
    """
    found = [Service("theta_api", settings.irt_theta_port, "IRT_THETA_PORT")]
    if settings.has_login or settings.database_url is None:
        arguments = () if settings.has_login else ("--demo",)
        found.insert(
            0, Service("dashboard", settings.irt_dashboard_port, "IRT_DASHBOARD_PORT", arguments, "IRT_DASHBOARD_URL")
        )
    if settings.irt_theta_token is None:
        token = secrets.token_hex(32)
        write_env_file(settings, irt_theta_token=token)
        settings = settings.model_copy(update={"irt_theta_token": SecretStr(token)})
    return settings, tuple(found)


def example_request(settings: Settings, address: str) -> str:
    """A shell command that requests the θ of a learner from the θ API at `address`."""
    with Database(settings).connect() as connection:
        row = connection.execute("SELECT user_id FROM mirt_ability ORDER BY fitted_at DESC, user_id LIMIT 1").fetchone()
    body = shlex.quote(json.dumps({"user_id": row[0] if row else "u1"}))
    return (
        f'. {shlex.quote(str(settings.irt_home / "irt.env"))}; curl -H "Authorization: Bearer $IRT_THETA_TOKEN" '
        f"--json {body} {address}/api/seedtest/analysis/irt/update-theta"
    )
