"""``python -m cascade``: the command ``cascade`` of cascade-engine."""

import sys


def main() -> int:
    """Run the command line; the exit code."""
    try:
        from cascade.command.main import main as command
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("cascade.command"):
            raise  # the command is there, and something else is missing
        message = 'the command needs cascade-engine: pip install "cascade-engine[cli]"'
        print(f"cascade: {message}", file=sys.stderr)
        return 2
    return command()


if __name__ == "__main__":
    sys.exit(main())
