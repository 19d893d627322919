"""Where weights come from, and the layouts that they come in."""
