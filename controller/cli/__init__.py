"""`cloudtap`: the command line, a client of the API and nothing else."""

from controller.cli.main import main

__all__ = [
    "main",
]
