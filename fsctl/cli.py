"""The command line: arguments in, an exit code out; errors on standard error, saying what to do.

Exit codes: 0 fine, 1 the thing looked at is wrong, 2 wrong usage, 78 the configuration cannot be used. What the
commands do lies elsewhere and is imported when its command runs.
"""

# ruff: noqa: D301 - the character \\b in the docstrings is click's mark for "leave these lines as they are"

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fsctl import __version__
from fsctl.config import DEFAULT_PATH, Config, ConfigProblems, load, render_defaults, settings, shown
from fsctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

EX_CONFIG = 78  # sysexits.h; systemd is told not to restart on it


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        return int(cli.main(list(arguments), prog_name="fsctl", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except ConfigError as error:
        click.echo(f"{error}\nfsctl: the configuration cannot be used; mend the settings above.", err=True)
        return EX_CONFIG


def _color() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _assignments(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    if wrong := next(
        (value for value, (name, equals, _) in zip(values, pairs, strict=True) if not (name and equals)), None
    ):
        raise click.BadParameter(f"{wrong!r} is not NAME=VALUE", param=parameter)
    return {name: value for name, _, value in pairs}


CONFIG_FILE = click.Path(dir_okay=False, path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any])


def _config_option(text: str) -> Callable[[Command], Command]:
    return click.option("--config", "config_path", type=CONFIG_FILE, envvar="FSCTL_CONFIG", metavar="FILE", help=text)


_service_config = _config_option(f"The settings; {DEFAULT_PATH} where that exists, else the defaults.")
_document_config = _config_option("Settings such as limits and gateways; the defaults when not given.")


def _service_settings(path: Path | None) -> Config:
    return load(path or (DEFAULT_PATH if DEFAULT_PATH.exists() else None))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fsctl", message="%(prog)s %(version)s")
def cli() -> None:
    """Run SWML call documents on FreeSWITCH.

    \b
    New here?             fsctl demo
    Wrote a document?     fsctl check menu.yaml && fsctl simulate menu.yaml
    On a FreeSWITCH host: fsctl config check && fsctl serve

    Exit codes: 0 fine, 1 the thing looked at is wrong, 2 wrong usage, 78 the configuration cannot be used.
    """


@cli.command(short_help="Run the service.")
@_service_config
def serve(config_path: Path | None) -> int:
    """Run the service: take calls from FreeSWITCH until told to stop.

    SIGTERM and SIGINT drain: no new calls, running ones may end for shutdown.drain seconds. A second signal stops
    at once.

    \b
    Examples:
      fsctl serve
      fsctl serve --config ./fsctl.yaml
      FSCTL_LOG_LEVEL=debug fsctl serve
    """
    config = _service_settings(config_path)
    from fsctl.server import serve as run_service  # noqa: PLC0415 - only this command needs it

    return run_service(config)


@cli.command(short_help="Show one call, without a FreeSWITCH.")
@click.option("--json", is_flag=True, help="One JSON object per line instead of text.")
def demo(json: bool) -> int:
    """Show one call from start to end, without a FreeSWITCH.

    Starts the service, a simulated switch and a receiver of webhooks on loopback. A call answers, streams, plays,
    records, plays its recording and hangs up. What happens is printed as it happens: each instruction and its result,
    what FreeSWITCH is told (>), each webhook as it arrives. Takes about four seconds, leaves nothing behind, and exits
    0 only when the call really did all of it, else 1. The log, from warnings on, goes to standard error.

    \b
    Examples:
      fsctl demo
      fsctl demo --json
    """
    from fsctl.demo import demo as run_demo  # noqa: PLC0415 - only this command needs it

    return run_demo(json=json, color=_color() and not json)


@cli.command(short_help="Run one document against a simulated switch.")
@click.argument("document", metavar="DOC")
@click.option(
    "--digits", default="", help="What the caller presses: 0-9 * # A-D; w waits half a second, W a whole one."
)
@click.option("--to", default="+15550199", show_default=True, help="The number called.")
@click.option("--from", "from_", default="+15550100", show_default=True, help="The number calling.")
@click.option("--vars", "variables", multiple=True, callback=_assignments, metavar="NAME=VALUE", help="Set vars.NAME.")
@click.option("--params", multiple=True, callback=_assignments, metavar="NAME=VALUE", help="Set params.NAME.")
@click.option(
    "--speed", type=click.FloatRange(1, 1000), default=20.0, show_default=True, help="Call seconds per second."
)
@click.option("--json", is_flag=True, help="One JSON object per line instead of text.")
@_document_config
def simulate(
    document: str,
    digits: str,
    to: str,
    from_: str,
    variables: dict[str, str],
    params: dict[str, str],
    speed: float,
    json: bool,
    config_path: Path | None,
) -> int:
    """Run one document against a simulated switch, faster than real time.

    DOC is a file, or - for standard input. Prints, with the seconds of the call: each instruction (section:line) and
    its result (=), what FreeSWITCH is told (>), webhooks, warnings, the final variables and how the call ended. Exits
    0 when the script ended without a script error, else 1. A document with mistakes is not run: they are listed as by
    fsctl check. --vars and --params give text, and may be repeated. The log goes to standard error.

    Nothing leaves this machine but what the script's logic needs: documents of execute and transfer are really
    fetched, and the request method really asks, under the rules of network.allow_private; call time stands still
    meanwhile. Webhooks are shown, not sent. For a sound behind a URL a second of silence is played. Streams connect, to
    nobody. Recordings are made, and are gone afterwards.

    The caller talks for two seconds when a recording begins, and is silent otherwise. --digits are pressed from one
    second after the script first listens to keys: a prompt, a record, or a record_call with terminators. After 300
    seconds of call time the caller leaves; a script that had not ended by then exits 1.

    \b
    Examples:
      fsctl simulate menu.yaml
      fsctl simulate menu.yaml --to +15550123 --digits "1w23#"
      fsctl simulate order.yaml --vars customer=42 --vars language=en --json
    """
    if wrong := set(digits) - set("0123456789*#ABCDabcdwW"):
        raise click.BadParameter(f"{''.join(sorted(wrong))!r} is no key; use 0-9 * # A-D w W", param_hint="--digits")
    _must_be_readable(document)
    config = load(config_path)
    from fsctl.simulation import simulate as run_document  # noqa: PLC0415 - only this command needs it

    return run_document(
        document,
        digits=digits,
        to=to,
        from_=from_,
        vars=variables,
        params=params,
        json=json,
        color=_color() and not json,
        speed=speed,
        config=config,
    )


def _must_be_readable(document: str) -> None:
    if document != "-" and not Path(document).is_file():
        raise click.BadParameter(f"{document}: no such file", param_hint="DOC")


@cli.command(short_help="Say what is wrong with documents.")
@click.argument("documents", metavar="DOC...", nargs=-1, required=True)
@click.option("--json", is_flag=True, help="JSON lines: an object per finding, then one per file.")
@_document_config
def check(documents: tuple[str, ...], json: bool, config_path: Path | None) -> int:
    """Read documents as the service would and say all that is wrong with them.

    DOC is a file, - for standard input, or a directory, in which every .yaml, .yml and .json file is read, at any
    depth. Each finding names the file, line, section, place in it and the relay_script_* code. Exits 1 when anything
    is wrong. With --json, findings have the keys file, line, section, index, code and message; then comes one object
    with file and ok for each file.

    \b
    Examples:
      fsctl check menu.yaml
      fsctl check /etc/fsctl/swml --json
      generate-menu | fsctl check -
    """
    config = load(config_path)
    from fsctl.checking import check_documents  # noqa: PLC0415 - only this command needs it

    results = check_documents(documents, config, sys.stdin.buffer)
    color = _color() and not json
    wrong = False
    for result in results:
        wrong |= not result.ok
        lines = result.as_json() if json else result.as_text(color=color)
        for line in lines:
            click.echo(line, color=color)
    return int(wrong)


@cli.command("stream-sink")
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("streams"),
    show_default=True,
    help="Folder for the WAV files; made when it is not there.",
)
@click.option("--echo", is_flag=True, help="Send the audio back (bidirectional streams).")
def stream_sink(port: int, host: str, out: Path, echo: bool) -> int:
    """Be an endpoint of streams: write what comes as WAV files and print the messages.

    One file for each stream and track. For trying documents out: set streams.allow_plaintext and put the address into
    network.allow_private, then stream to ws://127.0.0.1:9000/. Ends with Ctrl-C.

    \b
    Examples:
      fsctl stream-sink
      fsctl stream-sink --port 9100 --out /tmp/streams --echo
    """
    from fsctl.streams import sink  # noqa: PLC0415 - only this command needs it

    try:
        sink.run(out, host=host, port=port, echo=echo, tell=click.echo)
    except OSError as error:
        click.echo(f"cannot listen on {host}:{port} or write to {out}: {error}", err=True)
        return 1
    return 0


@cli.group(short_help="Show or check the settings.")
def config() -> None:
    """Look at the settings: what they are, where each came from, whether they can be used."""


@config.command(short_help="Print every setting and where it came from.")
@_service_config
@click.option("--defaults", is_flag=True, help="Print a whole commented configuration file with every default.")
@click.option("--json", is_flag=True, help="One JSON object per line: name, value and origin.")
def show(config_path: Path | None, defaults: bool, json: bool) -> int:
    """Print every setting, its value and where that came from.

    Secrets show as (set), and passwords in URLs as ***.

    \b
    Examples:
      fsctl config show
      fsctl config show --config ./fsctl.yaml --json
      fsctl config show --defaults > fsctl.yaml
    """
    if defaults:
        click.echo(render_defaults(), nl=False)
        return 0
    loaded = _service_settings(config_path)
    for name, setting in settings().items():
        value, origin = shown(loaded.value(name), secret=setting.secret), loaded.origin(name)
        if json:
            click.echo(jsonlib.dumps({"name": name, "value": value, "origin": origin}))
        else:
            click.echo(f"{name:<34} {jsonlib.dumps(value, ensure_ascii=False):<40} {origin}")
    return 0


@config.command("check", short_help="Say whether the settings can be used.")
@_service_config
@click.option("--json", is_flag=True, help="One JSON object per problem: setting, origin and problem.")
def check_config(config_path: Path | None, json: bool) -> int:
    """Read the settings as the service would; exit 0 when they can be used, 78 when not.

    \b
    Examples:
      fsctl config check
      fsctl config check --config ./fsctl.yaml
    """
    try:
        loaded = _service_settings(config_path)
    except ConfigProblems as error:
        if not json:
            raise
        for problem in error.problems:
            click.echo(jsonlib.dumps(asdict(problem)))
        return EX_CONFIG
    if not json:
        given = sum(loaded.origin(name) != "default" for name in settings())
        click.echo(f"ok: {len(settings())} settings, {given} of them given")
    return 0
