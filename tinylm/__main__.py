"""`python -m tinylm`: the `tinylm` command."""

from __future__ import annotations

from tinylm.cli import main

if __name__ == "__main__":
    main()
