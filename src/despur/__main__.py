"""``python -m despur`` is the ``despur`` command."""

from despur.cli import main

if __name__ == "__main__":
    main()
