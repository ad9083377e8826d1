"""Schedule files: their format, their picture, and why a schedule has the stages that it has."""
