"""``python -m contractive_gnn`` is the command ``contractive-gnn``."""

from contractive_gnn.bench.cli import app

if __name__ == "__main__":  # the workers of a benchmark import the main module again
    app()
