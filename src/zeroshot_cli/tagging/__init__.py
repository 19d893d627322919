"""Keywords that photo programs read: XMP sidecars and, by exiftool, the images themselves."""
