"""secret set, list, rm. A value comes from standard input or a prompt, never from argv."""

from __future__ import annotations

import sys
from difflib import get_close_matches

from volery.cli.session import Given, Session
from volery.manifest.mistake import ManifestError
from volery.model.errors import Code, VoleryError


def _written_needs(session: Session, name: str) -> list[str]:
    """The services whose manifest names a secret; none where the manifest has mistakes."""
    try:
        services = session.application.services
    except ManifestError:
        return []
    return [service for service, config in services.items() if name in config.secrets]


def _say_unwanted(session: Session, name: str) -> None:
    """A hint where no service of a manifest without mistakes wants it: perhaps it is mistyped."""
    try:
        services = session.application.services.values()
    except ManifestError:
        return
    wanted = [secret for service in services for secret in service.secrets]
    if name in wanted:
        return
    near = get_close_matches(name, wanted, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    print(f"no service of {session.path} has it in its `secrets`{meant}", file=sys.stderr)


def set_(name: str, /, *, session: Given) -> int:
    """Set a secret to what standard input says (or what is typed, unseen).

    Args:
        name: Its name, as the services' environment will call it.
    """
    if "=" in name:
        raise VoleryError(
            "a secret's value must not be on the command line, where others can see it",
            code=Code.INVALID,
            hint=f"volery secret set {name.partition('=')[0]} < file",
        )
    if sys.stdin.isatty():
        import getpass

        try:
            value = getpass.getpass(f"{name}: ")
        except KeyboardInterrupt:
            raise KeyboardInterrupt("nothing was changed") from None
    else:
        given = sys.stdin.buffer.read()  # the locale does not say what a secret may be
        value = given.decode("utf-8", "surrogateescape").removesuffix("\n")
    if not value:
        raise VoleryError(
            f"no value for {name} came from standard input",
            code=Code.INVALID,
            hint=f"volery secret set {name} < file",
        )
    from volery.store.secrets import Secrets

    session.home.create()
    version = Secrets(session.home.secrets).set(name, value).version
    _say_unwanted(session, name)
    if session.json:
        session.emit({"name": name, "version": version})
    else:
        print(
            f"{name} is set (version {version}); instances that start from now on have it, the next"
            " up or deploy brings it to those that run"
        )
    return 0


def list_(*, session: Given) -> int:
    """The names of the secrets that are set; never their values."""
    from volery.store.secrets import Secrets

    found = Secrets(session.home.secrets).names()
    if session.json:
        from volery.model.moment import time

        session.emit(
            {
                "secrets": [
                    {
                        "name": item.name,
                        "version": item.version,
                        "changed_at": time(item.changed_at),
                    }
                    for item in found
                ]
            }
        )
    else:
        for item in found:
            print(f"{item.name}  version {item.version}")
    return 0


def rm_(name: str, /, *, session: Given) -> int:
    """Remove a secret; one that a service needs only if you confirm it.

    Args:
        name: Which.
    """
    from volery.api.offline import users_of_secret
    from volery.store.secrets import Secrets

    kept = Secrets(session.home.secrets)
    if name not in session.secrets_set():
        known = ", ".join(sorted(session.secrets_set()))
        raise VoleryError(
            f"no secret {name} is set", code=Code.NOT_FOUND, hint=f"set here: {known or 'none'}"
        )
    live = users_of_secret(session.home, name)
    written = _written_needs(session, name)
    if live or written:
        where = [f"{', '.join(live)} runs with it and could not start again"] if live else []
        where += [f"the manifest wants it for {', '.join(written)}"] if written else []
        session.confirm(f"remove {name}: {'; '.join(where)};")
    kept.remove(name)
    if session.json:
        session.emit({"name": name, "removed": True})
    else:
        print(f"{name} is removed")
    return 0
