"""The command ``contractive-gnn``, which ``python -m contractive_gnn`` is as well."""

import sys

from contractive_gnn.extras import MissingExtraError, needs


def main() -> None:
    """Run the command line, or say in one sentence what it lacks."""
    try:
        with needs("bench", "the command line"):
            from contractive_gnn.bench.cli import app
    except MissingExtraError as error:
        sys.exit(f"contractive-gnn: {error}")
    app()


if __name__ == "__main__":  # the workers of a benchmark import the main module again
    main()
