"""pgmq's SQL: from the Python package pgmq, held to what has been tried here, never part of this package."""

from __future__ import annotations

import hashlib

from pgflow_starter.errors import MissingExtraError, SetupError, installing

DIGESTS = frozenset({"bf7e66c75ed771df0c5f7cb2b9f0123ca77992daacd56e3911d1894a3efa99de"})  # pgmq 1.13.0
"""SHA-256 of each SQL that is known."""


def pgmq_sql(*, accept: bool = False) -> tuple[str, str]:
    """The version of pgmq, as the package that is installed here calls it, and its SQL. Reads a file.

    Raises SetupError for one that is not known, unless it is to be accepted; MissingExtraError where there is none.
    """
    try:
        from pgmq.install import get_embedded_install_sql, get_embedded_sql_version
    except ImportError as error:
        raise MissingExtraError(
            f"this server has no pgmq extension for us, and pgmq's SQL is not installed here ({error}): "
            f"{installing('embedded')}"
        ) from error
    version, sql = get_embedded_sql_version(), get_embedded_install_sql()
    digest = hashlib.sha256(sql.encode()).hexdigest()
    if digest not in DIGESTS and not accept:
        raise SetupError(
            f"the SQL of pgmq {version} in the installed Python package pgmq is none that was tried here (its "
            f"sha256 is {digest}): nothing was changed; {installing('embedded')} brings one that was, or "
            "read pgmq/sql/pgmq.sql of that package and accept it: `pgflow-starter db install --accept`, or "
            "install(..., accept=True)"
        )
    return version, sql
