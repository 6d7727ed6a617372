"""`python -m mmkd_lib.cli` is `mmkd`."""

from . import main

if __name__ == "__main__":
    main()
