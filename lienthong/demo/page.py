"""The page for operators during the demo: an account with a password made for it, and where to look."""

from __future__ import annotations

from connectors.postgres import connect
from lienthong.settings import Settings
from lienthong.web import accounts
from lienthong.web.accounts import Account

NAME = "demo"


def opened(settings: Settings, port: int) -> str:
    """Make the account; what to tell whoever runs the demo."""
    password = accounts.made_password()
    connection = connect(settings.hub.dsn, application_name="lienthong demo")
    try:
        accounts.add(connection, Account(NAME, "operator"), password)
    finally:
        connection.close()
    return f"the page for operators: http://127.0.0.1:{port}/overview, name {NAME}, password {password}"
