"""Folders of images, however many there are."""
