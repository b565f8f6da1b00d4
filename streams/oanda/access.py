"""The access token: it is read again when OANDA refuses it; refusals are retried for a time.

A token that OANDA has accepted may be replaced at any time (rotation). Its file is read again at
every refusal, and a request refused with the old token is repeated once with the new one. A refusal
is recoverable until AUTH_RETRY_SEC has passed; after that, or if OANDA has never accepted the
token, it is final.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from streams.config.oanda import Oanda, token_of_file
from streams.errors import Fatal
from streams.oanda.errors import AccessRefused, AccessSuspended

SAY_EVERY_S = 60.0

log = logging.getLogger("manifold.oanda")


class Access:
    """Credentials for OANDA.

    Parameters
    ----------
    settings
        The token, its file, the account.
    clock
        Monotonic seconds.
    """

    def __init__(self, settings: Oanda, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._tokens = [settings.oanda_api_key]
        self._let_in = False
        self._refused_at: float | None = None
        self._say_at = -SAY_EVERY_S
        self._trouble = ""

    @property
    def token(self) -> str:
        """The current token."""
        return self._tokens[-1]

    @property
    def refused_s(self) -> float:
        """For how long OANDA has refused the token, seconds; 0 while it accepts it."""
        return 0.0 if self._refused_at is None else self._clock() - self._refused_at

    def expect(self) -> None:
        """Record that OANDA accepted the token before this process started."""
        self._let_in = True

    def accepted(self) -> None:
        """Record that OANDA accepted the token."""
        if self._refused_at is not None:
            log.warning("OANDA accepts the token again after %.0f s", self.refused_s)
        self._let_in, self._refused_at = True, None

    def renew(self, used: str) -> bool:
        """Return whether there is another token than the refused one.

        The file is read again; content that is not a token (a write in progress) is ignored.
        """
        if used != self.token:
            return True
        path, self._trouble = self._settings.oanda_api_key_file, ""
        if not path:
            return False
        try:
            found = token_of_file(path)
        except Fatal as error:
            self._trouble = f"; {error}"
            return False
        if found == self.token:
            self._trouble = f"; OANDA_API_KEY_FILE={path} still holds the same token"
            return False
        self._tokens = [*self._tokens[-1:], found]
        log.warning("OANDA_API_KEY_FILE holds another token: it is used from now on")
        return True

    def refused(self, endpoint: str, status: int) -> AccessSuspended | AccessRefused:
        """Return the error for a response 401 or 403."""
        settings = self._settings
        said = (
            f"OANDA's {settings.oanda_environment} environment refuses the login ({status} for "
            f"{endpoint}): OANDA_API_KEY is not a valid token of it, or not for OANDA_ACCOUNT_ID="
            f"{settings.oanda_account_id}{self._trouble}"
        )
        if self._refused_at is None:
            self._refused_at = self._clock()
        if not self._let_in:
            return AccessRefused(f"{said}; check both and OANDA_ENVIRONMENT")
        if self.refused_s >= settings.auth_retry_sec:
            return AccessRefused(
                f"{said}; refused for {self.refused_s:.0f} s, AUTH_RETRY_SEC is "
                f"{settings.auth_retry_sec:g}; set a valid token and start again"
            )
        how = "put the new token into OANDA_API_KEY_FILE, it is read again at every attempt"
        if not settings.oanda_api_key_file:
            how = "a new token needs a restart, because OANDA_API_KEY_FILE is not set"
        left_s = settings.auth_retry_sec - self.refused_s
        found = AccessSuspended(f"{said}; tried for {left_s:.0f} s more: {how}")
        if self._clock() - self._say_at >= SAY_EVERY_S:
            self._say_at = self._clock()
            log.error("%s", found)
        return found

    def clean(self, text: str) -> str:
        """Return a text with all tokens removed."""
        for token in self._tokens:
            text = text.replace(token, "***")
        return text
