"""`python -m lienthong`."""

from lienthong.cli import main

if __name__ == "__main__":
    main()
