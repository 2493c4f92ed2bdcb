"""Published vectors, one JSON file per algorithm; each file names its source."""
