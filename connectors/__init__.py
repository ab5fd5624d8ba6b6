"""One module for each kind of system or library the service talks to."""
