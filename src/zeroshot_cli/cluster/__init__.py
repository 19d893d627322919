"""Many machines: the work of one task, which knows no engine, and the engine that hands tasks out."""
