"""`python -m iosfarm`."""

from iosfarm.cli.main import main

if __name__ == "__main__":
    main()
