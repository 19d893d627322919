"""Bytes from the network: downloaded, resumed, checked by hash."""
