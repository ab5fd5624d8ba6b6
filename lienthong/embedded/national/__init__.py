"""Servers that behave like the national services, for the demo and the tests: real HTTP processes with their own state in PostgreSQL.

Nothing outside this package, the demo and the tests imports them. They answer by the pinned contracts of `connectors/wsdl` with lxml and the
standard library's HTTP server and not with a SOAP framework: a framework (spyne) writes a WSDL of its own from its classes and cannot serve
ours, and it hides the socket, where a drip, a reset or a cut answer has to happen.
"""
