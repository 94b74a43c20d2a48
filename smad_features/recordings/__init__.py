"""Eye-tracker recordings: one module a tracker, a file becomes named channels over time."""
