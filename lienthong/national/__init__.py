"""National services: the population database, the register of administrative units, the national portal."""
