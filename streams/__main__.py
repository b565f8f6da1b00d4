"""``python -m streams`` is ``manifold``."""

from streams.cli import main

main()
