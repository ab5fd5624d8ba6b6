"""Day certificates: for each system, entity and day, that everything captured is accounted for and that every party holds what it should."""
