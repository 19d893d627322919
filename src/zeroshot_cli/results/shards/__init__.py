"""Runs that many machines share: shards, folders of parts, and how they become one file again."""
