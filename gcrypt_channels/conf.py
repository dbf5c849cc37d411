"""The package's settings: ``GCRYPT_PASSPHRASE`` and the dictionary ``GCRYPT``.

Every setting is read when it is used, so ``override_settings`` works in tests. What is wrong with
the settings is found in one place, :func:`problems`: the system checks print it, and the middleware
refuses to start with it, because an ASGI server runs no system checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .protocol.profiles import PROFILES, V2

MIN_PASSPHRASE_LENGTH = 16
"""Characters; anything shorter can be guessed, whatever it is made of."""


class Problem(NamedTuple):
    """One thing that is wrong with the settings; ``id`` is that of the system check."""

    id: str
    message: str
    hint: str


class _Option(NamedTuple):
    default: Any
    is_valid: Callable[[Any], bool]
    expected: str


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_seconds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_profiles(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(profile in PROFILES for profile in value)
    )


def _is_resolver(value: Any) -> bool:
    return callable(value) or (isinstance(value, str) and value != "")


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


OPTIONS: Mapping[str, _Option] = {
    "PROFILES": _Option(
        [V2], _is_profiles, "a non-empty list of 'gcrypt.v2' and 'gcrypt.v1', preferred first"
    ),
    "PASSPHRASE_RESOLVER": _Option(
        "session", _is_resolver, "'session', 'shared', a dotted path or a callable"
    ),
    "ANONYMOUS": _Option(False, _is_bool, "True or False"),
    "MAX_MESSAGE_SIZE": _Option(
        1_048_576, lambda value: _is_int(value, 1024), "a whole number of bytes, at least 1024"
    ),
    "HANDSHAKE_TIMEOUT": _Option(10, _is_seconds, "a number of seconds above 0"),
    "PADDING": _Option(False, _is_bool, "True or False"),
    "REVALIDATE_INTERVAL": _Option(30, _is_seconds, "a number of seconds above 0"),
    "CHANNEL_LAYER": _Option(
        "default",
        lambda value: isinstance(value, str) and value != "",
        "the alias of a channel layer in CHANNEL_LAYERS",
    ),
    "BACKLOG_SIZE": _Option(
        1_048_576, lambda value: _is_int(value, 1024), "a whole number of bytes, at least 1024"
    ),
    "BACKLOG_POLICY": _Option("gap", lambda value: value in ("gap", "close"), "'gap' or 'close'"),
}


def load_resolver(value: str | Callable[..., Any]) -> str | Callable[..., Any]:
    """``"session"``, ``"shared"``, or the callable that ``value`` is or that a dotted path names.

    Raises:
        ImproperlyConfigured: there is nothing to import under this path.
    """
    if not isinstance(value, str) or value in ("session", "shared"):
        return value
    try:
        imported: Callable[..., Any] = import_string(value)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"The passphrase resolver {value!r} cannot be imported: {error}."
        ) from error
    return imported


class Conf:
    """The settings as properties; a value of the wrong type raises ``ImproperlyConfigured``."""

    def _get(self, name: str) -> Any:
        configured = getattr(settings, "GCRYPT", {})
        if not isinstance(configured, Mapping):
            raise ImproperlyConfigured("GCRYPT must be a dictionary.")
        option = OPTIONS[name]
        value = configured.get(name, option.default)
        if not option.is_valid(value):
            raise ImproperlyConfigured(f"GCRYPT[{name!r}] must be {option.expected}.")
        return value

    @property
    def passphrases(self) -> tuple[str, ...]:
        """``GCRYPT_PASSPHRASE`` as a tuple, the primary first."""
        value = getattr(settings, "GCRYPT_PASSPHRASE", None)
        passphrases = (value,) if isinstance(value, str) else value
        if (
            not isinstance(passphrases, (list, tuple))
            or not passphrases
            or not all(isinstance(each, str) and each for each in passphrases)
        ):
            raise ImproperlyConfigured(
                "GCRYPT_PASSPHRASE must be a non-empty string, or a list of them whose first is "
                "the primary. 'manage.py gcrypt_keygen' prints one."
            )
        return tuple(passphrases)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The enabled profiles, preferred first."""
        return tuple(self._get("PROFILES"))

    @property
    def resolver(self) -> str | Callable[..., Any]:
        """``"session"``, ``"shared"`` or the project's own callable."""
        return load_resolver(self._get("PASSPHRASE_RESOLVER"))

    @property
    def anonymous(self) -> bool:
        """Whether visitors who are not logged in get a key."""
        return bool(self._get("ANONYMOUS"))

    @property
    def max_message_size(self) -> int:
        """The largest message accepted, in bytes of plaintext."""
        return int(self._get("MAX_MESSAGE_SIZE"))

    @property
    def handshake_timeout(self) -> float:
        """Seconds that a client has to answer HELLO."""
        return float(self._get("HANDSHAKE_TIMEOUT"))

    @property
    def padding(self) -> bool:
        """Whether outbound ``gcrypt.v2`` messages are padded to hide their length."""
        return bool(self._get("PADDING"))

    @property
    def revalidate_interval(self) -> float:
        """Seconds between two sweeps over the sessions of all live connections."""
        return float(self._get("REVALIDATE_INTERVAL"))

    @property
    def channel_layer(self) -> str:
        """The alias of the channel layer that carries group messages and revocations."""
        return str(self._get("CHANNEL_LAYER"))

    @property
    def backlog_size(self) -> int:
        """Bytes of group messages that may wait for one slow client."""
        return int(self._get("BACKLOG_SIZE"))

    @property
    def backlog_policy(self) -> str:
        """What happens past ``backlog_size``: ``"gap"`` drops and tells, ``"close"`` closes."""
        return str(self._get("BACKLOG_POLICY"))


conf = Conf()


def problems() -> list[Problem]:
    """Everything in the settings that keeps the package from working, all at once."""
    return [*_passphrase_problems(), *_option_problems()]


def _passphrase_problems() -> list[Problem]:
    hint = (
        "Set GCRYPT_PASSPHRASE to what 'manage.py gcrypt_keygen' prints; keep it out of the code."
    )
    try:
        passphrases = conf.passphrases
    except ImproperlyConfigured as error:
        return [Problem("gcrypt_channels.E001", str(error), hint)]
    if any(len(passphrase) < MIN_PASSPHRASE_LENGTH for passphrase in passphrases):
        message = f"GCRYPT_PASSPHRASE is shorter than {MIN_PASSPHRASE_LENGTH} characters."
        return [Problem("gcrypt_channels.E002", message, hint)]
    return []


def _option_problems() -> list[Problem]:
    configured = getattr(settings, "GCRYPT", {})
    if not isinstance(configured, Mapping):
        return [
            Problem("gcrypt_channels.E003", "GCRYPT must be a dictionary.", "See docs/settings.md.")
        ]
    found = []
    for name in configured:
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            message = f"GCRYPT has an unknown key {name!r}."
            found.append(Problem("gcrypt_channels.E004", message, f"The keys are: {known}."))
    for name in OPTIONS:
        try:
            conf._get(name)
        except ImproperlyConfigured as error:
            hint = f"The default is {OPTIONS[name].default!r}."
            found.append(Problem("gcrypt_channels.E005", str(error), hint))
    if not any(problem.id == "gcrypt_channels.E005" for problem in found):
        found += _resolver_problems()
    return found


def _resolver_problems() -> list[Problem]:
    try:
        resolver = conf.resolver
    except ImproperlyConfigured as error:
        hint = "Name 'session', 'shared' or a function that takes the scope."
        return [Problem("gcrypt_channels.E006", str(error), hint)]
    if resolver == "shared" and V2 in conf.profiles:
        return [
            Problem(
                "gcrypt_channels.E007",
                "GCRYPT['PASSPHRASE_RESOLVER'] is 'shared', which serves gcrypt.v1 alone, but "
                "GCRYPT['PROFILES'] lists gcrypt.v2.",
                "Use the 'session' resolver, or PROFILES = ['gcrypt.v1'].",
            )
        ]
    return []
