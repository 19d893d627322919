"""Result files, and what a killed run leaves behind."""
