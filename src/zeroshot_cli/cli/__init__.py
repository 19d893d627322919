"""The command line: one thin file a command; `app.main` is the entry point."""
