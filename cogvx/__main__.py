"""`python -m cogvx`: the command line, for launchers that want a module."""

from cogvx.commands import main

if __name__ == "__main__":
    main()
