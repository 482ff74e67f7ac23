"""Files that a command opens or writes where another user works: owner, mode, and no link followed.

Root looks after an agent that runs as another user. Two things must not happen then: that a file
becomes root's, which the agent cannot read any more; and that root is led to a file elsewhere by a
link that the agent's user, or whoever took it over, has put there.

- `acting_as_owner`: root becomes the owner of a folder while it works in it. The kernel then
  refuses whatever that owner may not do, and what is made belongs to the owner by itself.
- `open_plain` and `refuse_links`: a file that is one, and nothing that stands in its place.
- `refuse_pipes`: what a person has named, and is to be read, keeps nobody waiting for ever.
- `whole_file`: writes a file that appears whole, with the owner and mode of the one that it
  replaces, or with those that suit its folder.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl

#: Mode of what only its owner may read.
SECRET = 0o600
#: Mode of what anybody may read, less the umask.
OPEN = 0o666
#: Mode of what others have to read, whatever the umask of who makes it.
FOR_ALL = 0o644
#: Users below are services' own (Debian's policy, 9.2.2).
_FIRST_PERSON = 1000
#: Longer is not a secret but the wrong file.
_SECRET_BYTES_MAX = 4096
#: Where a process finds what it was started with.
_HANDED = (Path("/dev/fd"), Path("/proc/self/fd"))


class FileState(NamedTuple):
    """Which file bears a name, and how old its content is."""

    device: int
    inode: int
    size: int
    written_ns: int
    changed_ns: int


@contextmanager
def acting_as_owner(folder: Path) -> Iterator[None]:
    """While this lasts root is the owner of ``folder``, or of the nearest folder above that is
    there. Whoever is not root stays who they are.

    Where a folder of somebody else's on the way lets that owner not pass, root stays root: then
    the owner cannot have put anything there by its name either.
    """
    if os.getuid() != 0:
        yield
        return
    with acting_as(0, 0):
        try:
            owner, above = _owner_of(folder)
        except OSError:
            owner, above = None, []
    if owner is None:
        yield
        return
    with acting_as(owner.st_uid, owner.st_gid):
        passes = all(uid == owner.st_uid or _may_pass(one) for one, uid in above)
        if passes:
            yield
    if not passes:
        with acting_as(0, 0):
            yield


def why_unreadable(error: OSError, path: Path | str) -> str:
    """Why a file that the agent reads cannot be read; where its user may not, the command that
    lets it: most such files were made by root, for itself alone. One that a group may read, as the
    tokens, is the agent's, and stays in that group: another one would take it from the agent.
    """
    reason = error.strerror or str(error)
    if error.errno != errno.EACCES:
        return reason
    who, group = _names_of(os.geteuid(), os.getegid())
    # A link may lead into a folder that is shut, as those of certbot do.
    file = Path(os.path.realpath(path))
    shut = [one for one in file.parents if not os.access(one, os.X_OK, effective_ids=True)]
    found = None
    with suppress(OSError):
        found = None if shut else file.stat()
    if found is not None and found.st_gid and found.st_mode & stat.S_IRGRP:
        holder = _names_of(found.st_uid, found.st_gid)[1]
        # A person needs it now and then; and that group may read the server's key, too.
        is_service = os.geteuid() < _FIRST_PERSON
        helps = f"usermod -a -G {holder} {who}" if is_service else "sudo"
        return f"{reason} for {who} (root and the group {holder} may: {helps})"
    what, mode = (shut[-1], "g+x") if shut else (file, "g+r")
    return f"{reason} for {who} (chgrp {group} {what}; chmod {mode} {what})"


def _names_of(uid: int, gid: int) -> tuple[str, str]:
    """Of a user and a group; their numbers where the system has no names for them."""
    try:
        return pwd.getpwuid(uid).pw_name, grp.getgrgid(gid).gr_name
    except KeyError:
        return f"user {uid}", str(gid)


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """While this lasts root is the user ``uid`` with its groups, as far as the kernel goes."""
    before = os.geteuid(), os.getegid(), os.getgroups()
    try:
        _become(uid, gid, before[2] if uid == 0 else _groups_of(uid, gid))
        yield
    finally:
        _become(*before)


def open_plain(path: Path, flags: int, mode: int = SECRET) -> int:
    """As ``os.open``, and only if ``path`` is a plain file: no link, pipe or device.

    Root opens no file that has a second name, in a folder that is another user's: it may be a file
    that this user could not open.

    Raises:
        OSError: it is none, or cannot be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(path)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no plain file, and is left alone", str(path))
        refuse_links(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def file_state(path: Path) -> FileState:
    """What is another one where the file was replaced or written; raises OSError."""
    found = path.stat()
    return FileState(
        found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )


def refuse_pipes(*paths: Path) -> None:
    """Before ``paths`` are read as a whole: raises OSError where one is a pipe, a socket or a
    device, which may have no end, or wait for ever for somebody at the other one.

    What this process was handed by its shell (``<(…)``, /dev/stdin) is meant, and has an end.
    """
    for path in paths:
        if path in (Path("/dev/null"), Path("/dev/stdin")) or path.parent in _HANDED:
            continue
        try:
            kind = path.stat().st_mode
        except OSError:
            continue  # Whoever opens it says why.
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise OSError(errno.EINVAL, "is no plain file, and is left alone", str(path))


def load_pair(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Load a certificate and its key, which ask nobody for a pass phrase, from two plain files.

    Raises OSError, ssl.SSLError among them.
    """
    refuse_pipes(*(Path(path) for path in (certificate, key) if path is not None))
    context.load_cert_chain(certificate, key, password=_no_pass_phrase)


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """A client's TLS context: trust in the authority in a plain file alone, or in the system's.

    Raises OSError, ssl.SSLError among them.
    """
    import ssl

    if ca_file is not None:
        refuse_pipes(Path(ca_file))
    return ssl.create_default_context(cafile=ca_file)


def read_secret_line(path: Path) -> str:
    """The one line of printable ASCII that a plain file holds: a token, or a password.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, which the text does not repeat.
    """
    refuse_pipes(path)
    with path.open("rb") as file:
        return secret_line(file.read(_SECRET_BYTES_MAX + 1))


def secret_line(text: bytes) -> str:
    """The secret that is all of ``text``, without blanks around it.

    Raises:
        ValueError: it is something else, which is not repeated.
    """
    secret = text.decode("ascii", "replace").strip()
    # Anything else would let a file with a line break write headers of its own.
    if not secret.isascii():
        raise ValueError("it is no ASCII")
    if not secret or len(text) > _SECRET_BYTES_MAX or not secret.isprintable():
        raise ValueError("expected one line")
    return secret


def refuse_links(*paths: Path) -> None:
    """Before something opens ``paths`` that follows links and waits: raises OSError where one is no
    plain file or folder; for root also where it is another user's link, or a file of another's with
    a second name.
    """
    refuse_pipes(*paths)
    for path in paths if os.geteuid() == 0 else ():
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode) and found.st_uid != 0:
            text = "is a symbolic link of another user's, which root does not follow"
            raise OSError(errno.ELOOP, text, str(path))
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode) and path.parent.stat().st_uid:
            raise OSError(errno.EINVAL, "has a second name elsewhere, and is left alone", str(path))


@contextmanager
def whole_file(
    path: Path, mode: int = OPEN, *, reader: pwd.struct_passwd | None = None
) -> Iterator[IO[bytes]]:
    """A file that takes the name ``path`` once all of it is written and synced; what fails leaves
    nothing.

    One that is replaced keeps its owner and mode. A new one that root makes gets its folder's
    owner; in a folder of root's, ``reader`` may read it.

    Raises:
        OSError: the disk refuses, or a link of another user's stands in its place.
    """
    path = _target(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        beside = f".{path.name}.{secrets.token_hex(6)}"
        descriptor = os.open(
            beside,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            mode,
            dir_fd=folder,
        )
        try:
            with os.fdopen(descriptor, "wb") as out:
                if mode != OPEN:
                    os.fchmod(out.fileno(), mode)  # whatever the umask
                _own(out.fileno(), path.name, folder, reader)
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.rename(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(beside, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_file(
    path: Path, data: bytes, mode: int = SECRET, *, reader: pwd.struct_passwd | None = None
) -> None:
    """Write ``data`` to ``path`` as `whole_file` does."""
    with whole_file(path, mode, reader=reader) as out:
        out.write(data)


def give_to_owner(folder: Path, made: Path) -> None:
    """Give what root has made, ``made`` and all below it, to the owner of ``folder``.

    Only what is root's and has one name, and no link's target.
    """
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0 or not os.path.lexists(made):
        return
    for each in (made, *made.rglob("*")):
        found = each.lstat()
        if found.st_uid == 0 and (stat.S_ISDIR(found.st_mode) or found.st_nlink == 1):
            os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _groups_of(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def _become(uid: int, gid: int, groups: list[int]) -> None:
    # As root again first: nobody else may change groups.
    os.seteuid(0)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def _may_pass(folder: Path) -> bool:
    return os.access(folder, os.X_OK, effective_ids=True)


def _owner_of(folder: Path) -> tuple[os.stat_result, list[tuple[Path, int]]]:
    """``folder`` or the nearest above that can be looked at, and the folders above that, from the
    root on, with their owners.
    """
    for one in (folder, *folder.parents):
        with suppress(OSError):
            # Not Path.resolve, which has a RuntimeError for a link that leads to itself.
            place = Path(os.path.realpath(one, strict=True))
            return place.stat(), [(each, each.stat().st_uid) for each in reversed(place.parents)]
    raise PermissionError(errno.EACCES, "may not be looked at", str(folder))


def _target(path: Path) -> Path:
    """Where ``path`` leads, if it is a link; root follows none but its own."""
    if not path.is_symlink():
        return path
    if os.geteuid() == 0 and path.lstat().st_uid != 0:
        text = "is a symbolic link of another user's, which root does not follow"
        raise OSError(errno.ELOOP, text, str(path))
    return Path(os.path.realpath(path))


def _own(descriptor: int, name: str, folder: int, reader: pwd.struct_passwd | None) -> None:
    """Owner and mode of a file that takes ``name`` in ``folder``."""
    new = os.fstat(descriptor)
    try:
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        uid, gid, mode = _of_folder(os.fstat(folder), new, reader)
    else:
        if not stat.S_ISREG(old.st_mode):
            raise OSError(errno.EINVAL, "is no plain file, and is left alone", name)
        uid, gid, mode = old.st_uid, old.st_gid, stat.S_IMODE(old.st_mode)
    if (uid, gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(descriptor, uid if os.geteuid() == 0 else -1, gid)
        except PermissionError:
            # Not ours to give away: it stays with whoever writes it.
            mode &= ~0o077
    os.fchmod(descriptor, mode)


def _of_folder(
    folder: os.stat_result, new: os.stat_result, reader: pwd.struct_passwd | None
) -> tuple[int, int, int]:
    """What suits a new file of root's: its folder's owner; else the group that may look into the
    folder while others may not; else the reader's.
    """
    mode = stat.S_IMODE(new.st_mode)
    if os.geteuid() != 0:
        return new.st_uid, new.st_gid, mode
    # A group that may look where others may not is there to read.
    shared = mode | 0o040 if folder.st_mode & 0o044 == 0o040 else mode
    if folder.st_uid != 0 or folder.st_gid != 0:
        return folder.st_uid, folder.st_gid, shared
    if reader is not None and reader.pw_uid != 0:
        return 0, reader.pw_gid, mode | 0o040
    return 0, 0, mode


def _no_pass_phrase() -> str:
    # A service has nobody to ask, and OpenSSL would ask the terminal.
    raise OSError("the key is encrypted: `openssl pkey -in KEY -out NEW` takes its pass phrase off")
