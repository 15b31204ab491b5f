"""``python -m recbench`` is the ``recbench`` command."""

from recbench.cli import main

if __name__ == "__main__":
    main()
