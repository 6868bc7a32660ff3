"""The cogvx command line: one module per command, each a thin wrapper over the library.

A command's module is imported when that command is asked for, and imports torch inside its function, so help is quick.
"""

import importlib
import sys
from collections.abc import Sequence
from inspect import getdoc  # not the module: the command of that name would take its place
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from cogvx import __version__

from . import _errors

# name -> module of this package. The module has either `app` (a Typer with subcommands) or a function of that name.
COMMANDS = {
    name: name
    for name in (
        "sample",
        "i2v",
        "v2v",
        "vae",
        "caption",
        "upsample",
        "data",
        "train",
        "eval",
        "convert",
        "verify",
        "models",
        "inspect",
        "doctor",
    )
}

_PANELS = ("Arguments", "Options", "World", "Clip", "Diffusion", "Language model", "Machine", "Output")


class Command(typer.core.TyperCommand):
    """A command whose help lists its options under their panels, in plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section per help panel."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in _PANELS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                default = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(typer.core.TyperGroup):
    """The root: loads commands when asked for, and turns every error into the contract's line and exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build one command; None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _build(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; a misspelt one is answered with the nearest names."""
        if args and not args[0].startswith("-") and args[0].replace("_", "-") not in COMMANDS:
            raise _errors.unknown("command", args[0], COMMANDS, more="cogvx --help lists them")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and leave with an exit code of the contract."""
        arguments = list(sys.argv[1:] if args is None else args)
        if arguments == ["help"]:
            arguments = ["--help"]
        self._main_shell_completion(extra, "cogvx", complete_var)
        code = _errors.run(lambda: self._run(arguments, extra))
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, arguments: list[str], extra: dict[str, Any]) -> None:
        with self.make_context("cogvx", arguments, **extra) as context:
            self.invoke(context)


def _build(name: str) -> Any:
    module = importlib.import_module(f".{COMMANDS[name]}", __name__)
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer()
        app.command(name)(getattr(module, name))
    # Plain help: it is the same on every terminal and in the README, and rich takes longer to import than all of this.
    app.rich_markup_mode = None
    app._add_completion = False
    _dress(app)
    return typer.main.get_command(app)


def _dress(app: typer.Typer) -> None:
    """Give the commands of an app, and of the groups in it, their plain help."""
    for command in app.registered_commands:
        command.cls, command.help = Command, _help(command.callback)
    if app.registered_callback is not None:
        app.registered_callback.help = _help(app.registered_callback.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            group.typer_instance.rich_markup_mode = None
            _dress(group.typer_instance)


def _help(function: Any) -> str:
    r"""Return a command's docstring; a line of \b keeps the lines below it as they are."""
    return (getdoc(function) or "").replace("\\b\n", "\b\n")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"cogvx {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Group,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "max_content_width": 120,
    },
)


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    r"""Make, encode and study video with the CogVideoX family of models.

    \b
    cogvx sample "a red star moves to the right over a green field"
    cogvx i2v photo.png "the boat sails away" -o boat.mp4
    cogvx vae roundtrip clip.mp4

    `cogvx COMMAND --help` explains a command and ends with examples.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.callback(invoke_without_command=True, help=_help(root))(root)


def main() -> None:
    """Run the command line: the entry point of the package."""
    _errors.stop_on_signals()
    app()
