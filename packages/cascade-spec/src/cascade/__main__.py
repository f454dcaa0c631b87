"""``python -m cascade``: the command ``cascade`` of cascade-engine."""

import sys

_NEEDED = 'the command needs cascade-engine: pip install "cascade-engine[cli]"'


def main() -> int:
    """Run the command line; the exit code."""
    try:
        from cascade.command.main import main as command
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("cascade.command"):
            raise  # the command is there, and something else is missing
        if sys.argv[1:] in ([], ["-h"], ["--help"], ["--version"]):
            print(installed())
            return 0
        print(f"cascade: {_NEEDED}", file=sys.stderr)
        return 2
    return command()


def installed() -> str:
    """The distributions of Cascade that are installed, and how to get help, for people."""
    from importlib.metadata import PackageNotFoundError, version

    lines = []
    for name, holds in (
        ("cascade-spec", "tasks and lazy values"),
        ("cascade-graph", "graphs, drawings, the compiler"),
        ("cascade-engine", "runs, and the command cascade"),
        ("cascade-observatory", "agents, experiments, benchmarks"),
    ):
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        lines.append(f"{name:21}{found:15}{holds}")
    return "\n".join([*lines, "", f"{_NEEDED}", "names and examples: help('cascade') in Python"])


if __name__ == "__main__":
    sys.exit(main())
