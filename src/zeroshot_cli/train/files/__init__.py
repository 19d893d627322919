"""What a run leaves in its folder and finds there again: settings, figures, checkpoints, what trackers were told."""
