"""Bytes of what is elsewhere: on the web, in an object store, in a row of a Parquet file."""
