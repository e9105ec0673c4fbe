"""Where studies are kept: a journal file each by default, Postgres when configured. One process at a time runs a study."""

from __future__ import annotations

import fcntl
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trading_platform.contracts.errors import InputError, TransientError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

SETTING = "TRADING_OPTUNA_URL"


@contextmanager
def study_storage(folder: Path, name: str, url: str = "") -> Iterator[BaseStorage]:
    """The storage of one study, held by this process until the block ends.

    folder: of the journals, `<name>.journal` each; the lock lies there for Postgres, too, so it excludes processes of this host. url:
    SQLAlchemy's address, `postgresql+psycopg2://user:password@host/database`; empty: the journal. TransientError while another process
    runs the study or the database does not answer, InputError for an address that cannot work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransientError(f"another process runs the study {name}", str(folder), "wait until it has ended") from None
        yield _database(url) if url else _journal(folder / f"{name}.journal")


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    for stale in path.parent.glob(f"{path.name}*.lock*"):
        stale.unlink()  # of a killed process: this one holds the study's own lock
    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def _database(url: str) -> BaseStorage:
    """Optuna's tables in a database; neither the address nor its password is in any message."""
    import sqlalchemy
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage

    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        fix = "pip install psycopg2-binary, or leave the setting empty"
        raise InputError(f"no driver for the database: {error}", SETTING, fix) from None
    except sqlalchemy.exc.ArgumentError:
        raise InputError("not an address of a database", SETTING, "postgresql+psycopg2://user:password@host/database") from None
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        said = f"the database does not answer ({type(error).__name__})"
        raise TransientError(said, SETTING, "start it, or leave the setting empty") from None
