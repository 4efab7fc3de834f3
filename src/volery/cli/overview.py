"""What commands there are, and what `volery --help` says of them.

Imports nothing: to say this takes an instant, to build the command line does not.
"""

from __future__ import annotations

SHIP = "From source to users"
LOOK = "Looking"
ACT = "Acting by hand"
TOOLS = "Tools"
HEADINGS = (SHIP, LOOK, ACT, TOOLS)

HELP = "Takes services from source to production and keeps them well there."

EPILOGUE = """Exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 3 rolled back,
4 weakness found, 5 inconclusive, 6 refused by a guardrail, 7 no control plane."""

COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("authoring:init", SHIP, "Write a manifest from what is there."),
    "check": ("authoring:check", SHIP, "Validate the manifest, lint its policies."),
    "plan": ("shipping:plan", SHIP, "Show what up or deploy would change."),
    "up": ("shipping:up", SHIP, "Bring the environment to what the manifest says."),
    "deploy": ("shipping:deploy", SHIP, "Build, test and roll out new releases."),
    "down": ("shipping:down", SHIP, "Stop everything; volumes are kept unless asked."),
    "status": ("looking:status", LOOK, "The environment at a glance."),
    "rollout": ("looking:rollout", LOOK, "One rollout: phase, weights, reason."),
    "releases": ("looking:releases", LOOK, "The releases of a service."),
    "events": ("looking:events", LOOK, "What happened and why."),
    "logs": ("looking:logs", LOOK, "What a service wrote."),
    "promote": ("acting:promote", ACT, "Let the present step pass; --full: all that are left."),
    "pause": ("acting:pause", ACT, "Hold a rollout where it is."),
    "resume": ("acting:resume", ACT, "Let a paused rollout, or automation, go on."),
    "abort": ("acting:abort", ACT, "Turn a rollout round."),
    "rollback": ("acting:rollback", ACT, "Back to an earlier release, at once."),
    "scale": ("acting:scale", ACT, "Set the number of instances."),
    "restart": ("acting:restart", ACT, "Replace every instance."),
    "switchover": ("switching:switchover", ACT, "Make a replica the primary."),
    "demo": ("tools:demo", TOOLS, "A guided tour on a sample application."),
    "doctor": ("tools:doctor", TOOLS, "Check this machine."),
    "probe": ("tools:probe", TOOLS, "Send load and count every lost request."),
    "schema": ("authoring:schema", TOOLS, "The manifest's JSON Schema."),
    "version": ("tools:version", TOOLS, "The version."),
    "completion": ("tools:completion", TOOLS, "A completion script."),
}

SECRET = ("set", "list", "rm")
ABOUT_SECRETS = "Secrets: encrypted at rest, never printed."
GROUPS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "guard": ("guard", ACT, ("stop", "release"), "What may be disturbed, who waits, brakes."),
    "volumes": ("volumes", TOOLS, ("restore", "purge"), "What services keep; undo deletions."),
}
"""Commands that show something, and have commands below them that change it."""

OPTIONS = {
    "env": "The environment; by default $VOLERY_ENV, else the manifest's first one.",
    "file": "The manifest; by default volery.yaml here or in a folder above.",
    "output": "text for people, json for scripts.",
    "yes": "Answer questions with yes.",
}
"""What every command takes."""

_SIGNS = {"env": "--env NAME", "file": "--file PATH", "output": "--output text|json"}


def overview() -> str:
    """All of it on one page."""
    lines = ["Usage: volery COMMAND [OPTIONS]", "", HELP]
    for heading in HEADINGS:
        lines += ["", f"{heading}:", *_table(_under(heading))]
    options = {_SIGNS.get(name, f"--{name}"): text for name, text in OPTIONS.items()}
    options |= {"--help, -h": "This page, or all about one command.", "--version": "The version."}
    return "\n".join([*lines, "", "Options:", *_table(options), "", EPILOGUE])


def _under(heading: str) -> dict[str, str]:
    found = {name: text for name, (_, where, text) in COMMANDS.items() if where == heading}
    found |= {name: text for name, (_, where, _, text) in GROUPS.items() if where == heading}
    return found | ({"secret": ABOUT_SECRETS} if heading == TOOLS else {})


def _table(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:{width}}  {text}" for name, text in rows.items()]
