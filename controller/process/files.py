"""Files that somebody names by a path: opened without waiting, and read only up to a bound.

A path in the configuration may name anything: a FIFO that blocks its reader for ever, a device
without an end, a file that every user of the machine may change.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from flows.errors import CloudtapError

CERTIFICATE_BYTES_MAX = 1024 * 1024
"""Largest file of certificates, or of a key, that is read, in bytes."""
TOKEN_BYTES_MAX = 4096
"""Largest file of a token that is read, in bytes."""
PID_BYTES_MAX = 32
"""Largest file of a process id that is read, in bytes."""

_READ_BYTES = 1024 * 1024
_ROOT = 0
_CERTIFICATE = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


class Access(Enum):
    """Who else may have access to a file: the permission bits that it must not have."""

    PUBLIC = 0o002
    """Everybody may read it; not everybody may change it."""
    KEY = 0o027
    """A private key: its owner alone may read it; if that is root, its group may, too, as Debian's
    group ssl-cert does."""
    SECRET = 0o077
    """Its owner alone may read it."""


class UnusableFile(CloudtapError):
    """A file cannot be read, or must not be used; the sentence names it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def read_file(path: Path, bytes_max: int, access: Access = Access.PUBLIC) -> bytes:
    """The content of a regular file of at most ``bytes_max`` bytes.

    Raises:
        FileNotFoundError: there is none.
        UnusableFile: it is no regular file, is too large, cannot be read, or its permissions give
            others too much.
    """
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes must not wait
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except ValueError as error:
        raise UnusableFile(path, "cannot be read: its name has a NUL character") from error
    except OSError as error:
        raise UnusableFile(path, f"cannot be read: {_reason(error)}") from error
    try:
        found = os.fstat(opened)
        _check(path, found, access)
        if found.st_size > bytes_max:
            raise UnusableFile(path, _too_large(bytes_max))
        return _read(path, opened, bytes_max)
    finally:
        os.close(opened)


def load_tls_files(
    context: ssl.SSLContext, certificate: Path, private_key: Path, ca: Path | None = None
) -> None:
    """Have a TLS context use these PEM files, as they are now.

    The TLS library gets what was read, never the paths: it would wait for a FIFO for ever, also for
    one that takes the place of a file after a check, and ask for a password on the terminal.

    Raises:
        FileNotFoundError: one does not exist.
        UnusableFile: see ``read_file``; or the private key needs a password, a file is not in PEM
            form, or they do not belong together.
    """
    chain = read_file(certificate, CERTIFICATE_BYTES_MAX)
    key = read_file(private_key, CERTIFICATE_BYTES_MAX, Access.KEY)

    def refuse_password() -> str:
        raise UnusableFile(private_key, "the private key is encrypted: give one without a password")

    if not _CERTIFICATE.search(chain):
        raise UnusableFile(certificate, "it holds no certificate in PEM form")
    if not _PRIVATE_KEY.search(key):
        raise UnusableFile(private_key, "it holds no private key in PEM form")
    with _in_memory(chain) as chain_path, _in_memory(key) as key_path:
        try:
            context.load_cert_chain(chain_path, key_path, refuse_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                why = f"the private key {private_key} is that of another certificate"
            else:
                why = f"it, or the private key {private_key}, is damaged"
            raise UnusableFile(certificate, why) from error
    if ca is not None:
        authorities = read_file(ca, CERTIFICATE_BYTES_MAX)
        if not _CERTIFICATE.search(authorities):
            raise UnusableFile(ca, "it holds no certificate in PEM form")
        with _in_memory(authorities) as ca_path:
            try:
                context.load_verify_locations(ca_path)
            except ssl.SSLError as error:
                raise UnusableFile(ca, "its certificates are damaged") from error


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by another with this content, readable by its owner alone, in one step.

    Raises:
        OSError: it cannot be written; then the old one is still there.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # whatever it is: a FIFO would block its writer
    opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(opened, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renamed, new and removed files of a folder durable."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def check_access(path: Path, found: os.stat_result, access: Access) -> None:
    """Refuse permission bits that give others too much; says what to type.

    Raises:
        UnusableFile: it has such bits.
    """
    mode = stat.S_IMODE(found.st_mode)
    if access is Access.KEY and found.st_uid != _ROOT:
        access = Access.SECRET
    if not mode & access.value:
        return
    if access is Access.SECRET:
        bits, what = "go=", "is open to other users of this machine"
    elif access is Access.KEY:
        bits, what = "g-w,o=", "is open to other users of this machine"
    else:
        bits, what = "o-w", "can be changed by every user of this machine"
    type_this = f"chmod {bits} {shlex.quote(str(path))}"
    raise UnusableFile(path, f"{what} (mode {mode:04o}): type `{type_this}`")


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path of these bytes inside the block; no other process has it, and no disk."""
    opened = os.memfd_create("cloudtap", os.MFD_CLOEXEC)
    try:
        with open(opened, "wb", closefd=False) as stream:
            stream.write(content)
        yield f"/proc/self/fd/{opened}"
    finally:
        os.close(opened)


def _check(path: Path, found: os.stat_result, access: Access) -> None:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        what = kinds.get(kind, "something else")
        raise UnusableFile(path, f"cannot be read: it is {what}, not a regular file")
    check_access(path, found, access)


def _read(path: Path, opened: int, bytes_max: int) -> bytes:
    parts, left = [], bytes_max + 1
    while left > 0:
        try:
            part = os.read(opened, min(left, _READ_BYTES))
        except OSError as error:
            raise UnusableFile(path, f"cannot be read: {_reason(error)}") from error
        if not part:
            break
        parts.append(part)
        left -= len(part)
    if left <= 0:  # it has grown meanwhile, or tells no size
        raise UnusableFile(path, _too_large(bytes_max))
    return b"".join(parts)


def _too_large(bytes_max: int) -> str:
    shown = f"{bytes_max // 1024 // 1024} MiB" if bytes_max >= 1024 * 1024 else f"{bytes_max} bytes"
    return f"larger than {shown}: not read"


def _reason(error: OSError) -> str:
    words = error.strerror or str(error)
    if not isinstance(error, PermissionError):
        return words
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return (
        f"{words}: user {user} may not read it, or not enter its folder: change owner, group or "
        "mode of that (chown, chgrp, chmod)"
    )
