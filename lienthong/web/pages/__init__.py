"""The pages: one module for each."""

from lienthong.web.pages import (
    audit,
    certificates,
    differences,
    journey,
    language,
    log_in,
    log_in_oidc,
    lost,
    overview,
    parked,
    procedures,
    scorecards,
    systems,
)

PAGES = tuple(
    page.routes
    for page in (overview, systems, journey, lost, parked, differences, certificates, scorecards, procedures, audit, log_in, log_in_oidc, language)
)
