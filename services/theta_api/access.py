"""Identify the sender of a request, and decide whose θ the sender may request.

A service has the static token (IRT_THETA_TOKEN). Everybody else has a JWT of the company's login: people and services
with a role of this platform may request any learner's θ, a learner only the θ of their own `sub`; updating needs the
scope `exam:write`. Answers are posted with the static token, or with a role and the scope `attempts:write`: nobody
grades themselves. The bank is read with the static token, with a role, or with the scope `bank:read`, which the login
must give to services only. `services.jwt_verifier` verifies the JWTs.
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from resources.failures import PermanentFailure
from resources.settings import Settings
from services.jwt_verifier.tokens import TokenRefused, Verifier, build_verifier, sent_token
from services.theta_api.problems import Problem, unavailable

SCOPE = "exam:write"
POSTS = "attempts:write"
BANK = "bank:read"
STATIC_TOKEN = re.compile(r"[!-~]{16,}")


@dataclass(frozen=True)
class Caller:
    """The sender of a request. `only`: the only learner whose θ they may request; None: every learner."""

    name: str
    only: str | None
    may_update: bool
    may_post: bool = False
    may_read_bank: bool = False

    def require(self, user_id: str) -> None:
        if self.only is not None and self.only != user_id:
            raise Problem(
                403,
                "own_sub_only",
                "A token without a role of this platform may only request θ of its own sub: send that sub as user_id, "
                "or use the service's token.",
            )

    def require_update(self, user_id: str) -> None:
        self.require(user_id)
        if not self.may_update:
            raise Problem(403, "scope", f"To update θ the token needs the scope {SCOPE}: request it from the login.")

    def require_post(self) -> None:
        if self.only is not None:
            raise Problem(
                403, "role", "A learner's own token cannot post answers: use the service's token, or one with a role."
            )
        if not self.may_post:
            raise Problem(
                403, "scope", f"To post answers the token needs the scope {POSTS}: request it from the login."
            )

    def require_bank(self) -> None:
        if not self.may_read_bank:
            raise Problem(
                403,
                "role",
                "A learner's own token cannot read the bank: use a token with a role of this platform (viewer or "
                f"above) or with the scope {BANK}, or the service's token.",
            )

    def require_anyone(self) -> None:
        if self.only is not None:
            raise Problem(403, "role", "This needs a role of this platform (viewer or above), or the service's token.")


class Access:
    """Identifies callers by the static token or by JWTs. At least one of `token` and `verifier` must be set."""

    def __init__(self, token: str | None, verifier: Verifier | None) -> None:
        if token is None and verifier is None:
            raise PermanentFailure(
                "the θ API refuses everyone until IRT_THETA_TOKEN (a service's token) or JWT_ISSUER, JWT_AUDIENCE, "
                "IRT_ORG_ID and a key are set: see docs/reference/theta-api.md"
            )
        if token is not None and not STATIC_TOKEN.fullmatch(token):
            raise PermanentFailure(
                "IRT_THETA_TOKEN must be at least 16 printable ASCII characters without spaces: `openssl rand -hex 32`"
            )
        self._token = token
        self.verifier = verifier

    async def caller(self, authorization: Sequence[str]) -> Caller:
        """Identify the caller by the request's Authorization headers.

        Raises Problem 401 or 403, or 503 if the issuer's keys cannot be read.
        """
        try:
            token = sent_token(authorization, (), "")
            if self._token is not None and hmac.compare_digest(token.encode(), self._token.encode()):
                return Caller("service", None, may_update=True, may_post=True, may_read_bank=True)
            if self.verifier is None:
                raise Problem(401, "bad_token", "The token is not the one in IRT_THETA_TOKEN of the API.")
            identity = await run_in_threadpool(self.verifier.verify, token)
        except TokenRefused as refused:
            if refused.reason == "keys_unavailable":
                raise unavailable(f"{refused} Try again soon.", refused.reason) from None
            raise Problem(refused.status, refused.reason, str(refused)) from None
        only, may_read_bank = None if identity.roles else identity.sub, bool(identity.roles) or BANK in identity.scope
        return Caller(identity.sub, only, SCOPE in identity.scope, POSTS in identity.scope, may_read_bank)


def build_access(settings: Settings) -> Access:
    """Read the static token and the JWT settings. Raises PermanentFailure if neither is set, or if one is invalid."""
    token = settings.irt_theta_token
    verifier = build_verifier(settings) if settings.jwt_issuer else None
    return Access(token.get_secret_value() if token else None, verifier)
