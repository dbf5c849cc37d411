"""The package's settings: the passphrases and the dictionary ``GCRYPT``.

Every setting is read when it is used, so ``override_settings`` works in tests. :func:`problems`
alone decides what is wrong with the settings: the system checks print it, and the middleware
refuses to start with it, because an ASGI server runs no system checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeGuard, TypeVar, overload

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .crypto.jsontext import SURROGATE
from .protocol.profiles import PROFILES, V1, V2, V3, Profile, is_available

T = TypeVar("T")

MIN_PASSPHRASE_LENGTH = 16
"""Characters; a shorter passphrase can be guessed."""

STRONG_LENGTH = 32
"""Characters; W001 warns of a shorter passphrase."""

BOUND_MEMBERS = ("host", "target")
"""What ``BIND_REQUEST`` may name; see ``docs/protocol.md``, *Binding*."""

MAX_SECONDS = 86_400
"""The longest time that a setting may name: a day."""

MIN_SIZE = 1024
"""The smallest size that a setting may name, in bytes."""


class Problem(NamedTuple):
    """One thing that is wrong with the settings; ``id`` is that of the system check."""

    id: str
    message: str
    hint: str


class Setting(Generic[T]):
    """One key of ``GCRYPT``, named as the attribute is in capital letters.

    Reading the attribute reads and checks the setting: ``ImproperlyConfigured`` is raised when
    ``GCRYPT`` is no dictionary or the value is not what is expected.
    """

    def __init__(self, default: object, parse: Callable[[Any], T], expected: str) -> None:
        """``parse`` returns the value as the package uses it, or raises ``ValueError``.

        ``expected`` says in an error message what the value must be.
        """
        self.default = default
        self.expected = expected
        self._parse = parse

    def __set_name__(self, owner: type[Conf], name: str) -> None:
        self.key = name.upper()

    @overload
    def __get__(self, instance: None, owner: type[Conf]) -> Setting[T]: ...

    @overload
    def __get__(self, instance: Conf, owner: type[Conf]) -> T: ...

    def __get__(self, instance: Conf | None, owner: type[Conf]) -> Setting[T] | T:
        if instance is None:
            return self
        configured = getattr(settings, "GCRYPT", {})
        if not isinstance(configured, Mapping):
            raise ImproperlyConfigured("GCRYPT must be a dictionary.")
        try:
            return self._parse(configured.get(self.key, self.default))
        except ValueError:
            pass
        raise ImproperlyConfigured(f"GCRYPT[{self.key!r}] must be {self.expected}.")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < MIN_SIZE:
        raise ValueError
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    if not 0 < value <= MAX_SECONDS:
        raise ValueError
    return float(value)


def _seconds_or_never(value: Any) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else _seconds(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _profiles(value: Any) -> tuple[Profile, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError
    if not all(profile in PROFILES for profile in value) or len({*value}) < len(value):
        raise ValueError
    return tuple(value)


def _bind_request(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(each in BOUND_MEMBERS for each in value):
        raise ValueError
    return tuple(value)


def _resolver(value: Any) -> str | Callable[..., Any]:
    return value if callable(value) else _name(value)


_SIZE = f"a whole number of bytes, at least {MIN_SIZE}"
_SECONDS = f"a number of seconds above 0, at most {MAX_SECONDS}"


def load_resolver(value: str | Callable[..., Any]) -> str | Callable[..., Any]:
    """``"session"``, ``"shared"``, or the callable that ``value`` is or that a dotted path names.

    Raises:
        ImproperlyConfigured: there is nothing to import under this path, or nothing to call.
    """
    if not isinstance(value, str) or value in ("session", "shared"):
        return value
    try:
        imported: Callable[..., Any] = import_string(value)
    except (ImportError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(
            f"The passphrase resolver {value!r} cannot be imported: {error}."
        ) from error
    if not callable(imported):
        raise ImproperlyConfigured(f"The passphrase resolver {value!r} is not callable.")
    return imported


def is_passphrase(value: object) -> TypeGuard[str]:
    """Tell whether ``value`` is a string from which a key can be derived."""
    return isinstance(value, str) and value != "" and SURROGATE.search(value) is None


def _read_passphrases(name: str, check_id: str) -> tuple[str, ...] | Problem:
    """Return the passphrases of a setting, or what is wrong with it.

    It does not raise: an error report prints the locals of every frame that an exception passed.
    """
    value = getattr(settings, name, None)
    passphrases = (value,) if isinstance(value, str) else value
    if (
        not isinstance(passphrases, (list, tuple))
        or not passphrases
        or not all(isinstance(each, str) and each for each in passphrases)
    ):
        message = f"{name} must be a non-empty string, or a list of them, the primary one first."
        return Problem(check_id, message, _KEYGEN_HINT.format(name))
    if not all(map(is_passphrase, passphrases)):
        message = f"{name} has a lone surrogate, for which there is no UTF-8."
        return Problem("gcrypt_channels.E008", message, _KEYGEN_HINT.format(name))
    return tuple(passphrases)


_KEYGEN_HINT = "Set {} to what 'manage.py gcrypt_keygen' prints; keep it out of the code."


class Conf:
    """The settings as attributes; a value of the wrong type raises ``ImproperlyConfigured``."""

    profiles = Setting(
        [V3, V2],
        _profiles,
        "a non-empty list of 'gcrypt.v3', 'gcrypt.v2' and 'gcrypt.v1', each once, preferred first",
    )
    """The enabled profiles, preferred first; ``negotiate`` skips one that is not available."""

    passphrase_resolver = Setting(
        "session", _resolver, "'session', 'shared', a dotted path or a callable"
    )
    """The resolver as it is configured; :attr:`resolver` is what that names."""

    anonymous = Setting(False, _flag, "True or False")
    """Whether visitors who are not logged in get a key."""

    max_message_size = Setting(1_048_576, _size, _SIZE)
    """The largest message accepted, in bytes of plaintext."""

    handshake_timeout = Setting(10, _seconds, _SECONDS)
    """Seconds that a client has to answer HELLO."""

    padding = Setting(False, _flag, "True or False")
    """Whether outbound messages are padded to hide their length; not with ``gcrypt.v1``."""

    revalidate_interval = Setting(30, _seconds, _SECONDS)
    """Seconds between two sweeps over the sessions of all live connections."""

    channel_layer = Setting("default", _name, "the alias of a channel layer in CHANNEL_LAYERS")
    """The alias of the channel layer that carries group messages and revocations."""

    backlog_size = Setting(1_048_576, _size, _SIZE)
    """Bytes of group messages that may wait for one slow client; the rest is dropped."""

    drain = Setting(3, _seconds_or_never, f"a number of seconds, at most {MAX_SECONDS}; 0 for none")
    """Seconds within which a process that is stopped tells all its clients to come back."""

    @property
    def resolver(self) -> str | Callable[..., Any]:
        """``"session"``, ``"shared"`` or the project's own callable."""
        return load_resolver(self.passphrase_resolver)

    bind_request = Setting(
        list(BOUND_MEMBERS), _bind_request, "a list of 'host' and 'target', or an empty one"
    )
    """What the server compares with the request that arrived, besides the subprotocols."""

    @property
    def passphrases(self) -> tuple[str, ...]:
        """``GCRYPT_PASSPHRASE`` as a tuple, the primary first."""
        return _required(_read_passphrases("GCRYPT_PASSPHRASE", "gcrypt_channels.E001"))

    @property
    def shared_passphrases(self) -> tuple[str, ...]:
        """``GCRYPT_SHARED_PASSPHRASE`` as a tuple, the primary first."""
        return _required(_read_passphrases("GCRYPT_SHARED_PASSPHRASE", "gcrypt_channels.E009"))


def _required(found: tuple[str, ...] | Problem) -> tuple[str, ...]:
    if isinstance(found, Problem):
        raise ImproperlyConfigured(f"{found.message} {found.hint}")
    return found


conf = Conf()

OPTIONS: Mapping[str, Setting[Any]] = {
    each.key: each for each in vars(Conf).values() if isinstance(each, Setting)
}
"""The settings that ``GCRYPT`` may hold, by key."""


def problems(
    *,
    profiles: Iterable[Profile] | None = None,
    resolver: str | Callable[..., Any] | None = None,
) -> list[Problem]:
    """Return everything in the settings that keeps the package from working, all at once.

    ``profiles`` and ``resolver`` are those of one middleware, which replace the settings.
    """
    options = _option_problems()
    found = [*_passphrase_problems(), *options]
    if not any(
        problem.id in ("gcrypt_channels.E003", "gcrypt_channels.E005") for problem in options
    ):
        enabled = conf.profiles if profiles is None else tuple(profiles)
        found += _profile_problems(enabled)
        found += _resolver_problems(
            enabled, conf.passphrase_resolver if resolver is None else resolver
        )
    return found


def find_weakness(passphrases: tuple[str, ...]) -> Problem | None:
    """Return what is doubtful about the passphrases of ``GCRYPT_PASSPHRASE``, if anything."""
    if not any(map(_is_weak, passphrases)):
        return None
    message = (
        f"GCRYPT_PASSPHRASE is weak: shorter than {STRONG_LENGTH} characters, made of few "
        "different ones, or an insecure default."
    )
    hint = "Use what 'manage.py gcrypt_keygen' prints."
    return Problem("gcrypt_channels.W001", message, hint)


def _is_weak(passphrase: str) -> bool:
    return (
        len(passphrase) < STRONG_LENGTH
        or len(set(passphrase)) < 8
        or passphrase.startswith("django-insecure-")
        or passphrase == settings.SECRET_KEY
    )


def _passphrase_problems() -> list[Problem]:
    root = _read_passphrases("GCRYPT_PASSPHRASE", "gcrypt_channels.E001")
    shared: tuple[str, ...] | Problem = ()
    if hasattr(settings, "GCRYPT_SHARED_PASSPHRASE"):
        shared = _read_passphrases("GCRYPT_SHARED_PASSPHRASE", "gcrypt_channels.E009")
    found = []
    for name, passphrases in (("GCRYPT_PASSPHRASE", root), ("GCRYPT_SHARED_PASSPHRASE", shared)):
        if isinstance(passphrases, Problem):
            found.append(passphrases)
        elif any(len(passphrase) < MIN_PASSPHRASE_LENGTH for passphrase in passphrases):
            message = f"{name} is shorter than {MIN_PASSPHRASE_LENGTH} characters."
            hint = _KEYGEN_HINT.format(name)
            found.append(Problem("gcrypt_channels.E002", message, hint))
    if not found and {*root} & {*shared}:
        message = (
            "GCRYPT_SHARED_PASSPHRASE is one of GCRYPT_PASSPHRASE, from which all keys are derived:"
            " everybody who has the page could make every key."
        )
        found.append(Problem("gcrypt_channels.E010", message, "Choose another GCRYPT_PASSPHRASE."))
    return found


def _option_problems() -> list[Problem]:
    configured = getattr(settings, "GCRYPT", {})
    if not isinstance(configured, Mapping):
        return [
            Problem("gcrypt_channels.E003", "GCRYPT must be a dictionary.", "See docs/settings.md.")
        ]
    found = []
    for key in configured:
        if key not in OPTIONS:
            known = ", ".join(OPTIONS)
            message = f"GCRYPT has an unknown key {key!r}."
            found.append(Problem("gcrypt_channels.E004", message, f"The keys are: {known}."))
    for option in OPTIONS.values():
        try:
            option.__get__(conf, Conf)
        except ImproperlyConfigured as error:
            hint = f"The default is {option.default!r}."
            found.append(Problem("gcrypt_channels.E005", str(error), hint))
    return found


def _profile_problems(profiles: tuple[Profile, ...]) -> list[Problem]:
    if any(map(is_available, profiles)):
        return []
    message = "PROFILES has gcrypt.v3 alone, and the installed cryptography has no ML-KEM-768."
    hint = "Install cryptography 48 or newer, or enable gcrypt.v2 as well."
    return [Problem("gcrypt_channels.E012", message, hint)]


def _resolver_problems(
    profiles: tuple[Profile, ...], resolver: str | Callable[..., Any]
) -> list[Problem]:
    try:
        loaded = load_resolver(resolver)
    except ImproperlyConfigured as error:
        hint = "Name 'session', 'shared' or a function that takes the scope."
        return [Problem("gcrypt_channels.E006", str(error), hint)]
    if loaded != "shared":
        return []
    found = []
    if set(profiles) - {V1}:
        message = "The 'shared' passphrase resolver serves gcrypt.v1 alone, and PROFILES has more."
        hint = "Use the 'session' resolver, or enable gcrypt.v1 alone."
        found.append(Problem("gcrypt_channels.E007", message, hint))
    if not hasattr(settings, "GCRYPT_SHARED_PASSPHRASE"):
        message = "The 'shared' passphrase resolver needs GCRYPT_SHARED_PASSPHRASE."
        hint = "Set it to the passphrase that is in the page, and not to GCRYPT_PASSPHRASE."
        found.append(Problem("gcrypt_channels.E009", message, hint))
    return found
