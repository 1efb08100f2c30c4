"""A database on the other side of a network: who it is, is proven as its address says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trustme

from tests.helpers.postgres import running
from wanasync.edges.postgres import Journal
from wanasync.errors import JournalError


async def test_the_database_is_proven_where_its_address_says_so(tmp_path: Path) -> None:
    ours, somebodys = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ours.pem")
    somebodys.cert_pem.write_to_path(tmp_path / "somebodys.pem")
    certificate = ours.issue_cert("127.0.0.1")
    with running(durable=False) as server:
        server.stop()
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        server.use_tls(chain, certificate.private_key_pem.bytes())
        server.start()
        dsn = f"{server.new_database()}?sslmode=verify-full&sslrootcert={tmp_path}"
        async with await Journal.open(f"{dsn}/ours.pem", "films", now=time.time) as journal:
            encrypted = await journal.database.fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert encrypted == [(True,)]
        with pytest.raises(JournalError, match="certificate verify failed"):
            await Journal.open(f"{dsn}/somebodys.pem", "films", now=time.time)
