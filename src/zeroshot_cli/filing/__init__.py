"""Sort images into folders, and undo it."""
