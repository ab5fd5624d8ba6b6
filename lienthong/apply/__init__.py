"""Apply: unified records into other people's tables, guarded by version, with a witness for every local edit (protocol B5)."""
