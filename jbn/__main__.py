"""`python -m jbn` is the same as `jbn`."""

from jbn.cli import main

if __name__ == "__main__":
    main()
