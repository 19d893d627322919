"""`python -m zeroshot_cli` is `zeroshot`."""

from zeroshot_cli.cli.app import main

if __name__ == "__main__":
    main()
