from tests.helpers.postgres import database, kept_database, postgres_server

__all__ = ["database", "kept_database", "postgres_server"]
