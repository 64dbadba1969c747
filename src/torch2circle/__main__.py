"""``python -m torch2circle``."""

from .cli import main

main()
