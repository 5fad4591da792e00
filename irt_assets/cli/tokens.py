"""`irt tokens …`: parses, calls, prints.

Exit codes: 0 done; 2 the settings name another key.
"""

from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, print_json, say
from irt_assets.cli.installation import current_settings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def tokens() -> None:
    """Tokens for trying the login."""


@app.command("make-test", epilog="Example: irt tokens make-test --role analyst")
def make_test(
    role: Annotated[
        list[str] | None,
        typer.Option(help="viewer, analyst, psychometrician or operator; may be repeated. Default: viewer."),
    ] = None,
    sub: Annotated[str, typer.Option(help="Whose token it is.")] = "test",
    scope: Annotated[str, typer.Option(help="Scopes with spaces between them, e.g. exam:write.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a token for trying the login before the company's own one is connected, valid for an hour.

    It is signed with a key pair made for this, which counts only while JWT_PUBLIC_KEY_PATH names it.
    """
    from services.jwt_verifier.trial_tokens import make_trial_token, roles_named

    made = make_trial_token(current_settings(), sub, roles_named(role or ["viewer"]), scope)
    if as_json:
        print_json({"token": made.token, "settings": made.settings})
        return
    say(made.token)
    say("")
    say("The servers accept it with these settings:")
    for name, value in made.settings.items():
        say(f"{name}={value}")
