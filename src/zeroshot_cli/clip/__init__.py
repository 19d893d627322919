"""The bundled CLIP: pure torch; knows no files, no command line, no downloads."""
