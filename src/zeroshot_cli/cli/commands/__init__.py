"""The commands: one file each, or for two that belong together."""
