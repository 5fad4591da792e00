"""The commands of `irt tokens`.

Exit codes: 0 done; 2 the settings name another key.
"""

from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, print_json, say
from irt_assets.cli.installation import current_settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def tokens() -> None:
    """Make tokens for trying the login."""


@app.command("make-test", epilog="Example: irt tokens make-test --role analyst")
def make_test(
    role: Annotated[
        list[str] | None,
        typer.Option(help="Role: viewer, analyst, psychometrician or operator. May be repeated. Default: viewer."),
    ] = None,
    sub: Annotated[str, typer.Option(help="Subject of the token.")] = "test",
    scope: Annotated[str, typer.Option(help="Scopes, separated by spaces, e.g. exam:write.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token, valid for an hour, for trying the login before the company's own login is connected.

    It is signed with a key pair that is made for this purpose. Servers accept it
    only while JWT_PUBLIC_KEY_PATH names this key.
    """
    from services.jwt_verifier.trial_tokens import make_trial_token, read_roles

    made = make_trial_token(current_settings(), sub, read_roles(role or ["viewer"]), scope)
    if as_json:
        print_json({"token": made.token, "settings": made.settings})
        return
    say(made.token, "", "The servers accept it with these settings:")
    say(*(f"{name}={value}" for name, value in made.settings.items()))
