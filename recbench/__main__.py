"""``python -m recbench`` is the ``recbench`` command."""

import sys
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    with suppress(OSError):  # the working folder was deleted
        if not sys.flags.safe_path and sys.path[0] == str(Path.cwd()):
            del sys.path[0]  # where a file may have a module's name
    from recbench.cli import main

    main()
