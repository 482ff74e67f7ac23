"""A disk as a power cut may leave it: what is surely on it, and what may or may not be.

The assumptions are the ones of the product's promise and no kinder: a sector of 512 bytes (a
*unit*) is written whole or not at all, and a sync that has returned is true. Everything else is
left to chance:

- A unit is *pending* from the moment its write begins until a sync of that file ends which began
  after the write had ended. (A write through a descriptor opened with ``O_DSYNC`` is its own sync.)
  Of pending units any subset may be there, whatever the order in which they were written.
- A file's size is pending likewise. A unit beyond the size that survived is not there.
- An entry of a folder (a name made, removed or renamed) is pending until a sync of that folder
  ends. A rename is there whole or not at all. That a file was synced says nothing of its name.

`Disk` follows a recorded run operation by operation; ``pending`` is what may be missing, and
`images.image_of` is the disk with a chosen part of it.
"""

from __future__ import annotations

from tests.crash.images import LOCK_FILE
from tests.crash.inodes import UNIT, WIDE, Folder, Inode, Pending, apply_entry, unit_of, unit_print
from tests.crash.recording import Op, UnknownCall


class Disk:
    """See the module. Starts as an empty folder that is surely there, or with ``files``."""

    def __init__(self, files: dict[str, tuple[bytes, int] | None] | None = None) -> None:
        #: How many things were ever pending; the next one's number.
        self.count = 0
        self.root = Folder(0)
        self.pending: list[Pending] = []
        self._open: dict[int, tuple[Inode | Folder, bool, list[int]]] = {}
        self._running: dict[int, list[Pending]] = {}
        for path, content in sorted((files or {}).items()):
            self._adopt(path, content)

    def begin(self, op: Op) -> bool:
        """The operation has begun; whether that changed what may be on the disk."""
        if op.kind == "sync":
            owner, _, _ = self._open[op.fd]
            self._running[op.begin] = [p for p in self.pending if p.owner is owner and p.ended]
            return False
        before = self.count
        if op.kind == "write":
            self._write(op)
        elif op.kind in ("mkdir", "unlink", "rmdir", "rename"):
            self._running[op.begin] = self._name(op)
        return self.count != before

    def end(self, op: Op) -> bool:
        """The operation has ended; whether that changed what may be on the disk."""
        count, left = self.count, len(self.pending)
        if op.kind == "open":
            self._opened(op)
        elif op.kind == "close":
            self._open.pop(op.fd, None)
        elif op.kind == "dup":
            self._open[op.offset or -1] = self._open[op.fd]
        elif op.kind == "seek":
            self._open[op.fd][2][0] = op.offset or 0
        elif op.kind == "resize":
            self._resize(op)
        elif op.kind == "map":
            self._check_map(op)
        elif op.kind in ("sync", "write", "mkdir", "unlink", "rmdir", "rename"):
            done = self._running.pop(op.begin)
            if op.kind == "sync" or (op.kind == "write" and self._open[op.fd][1]):
                self._settle(done)
            for item in done:
                item.ended = True
        return (count, left) != (self.count, len(self.pending))

    def close_all(self) -> None:
        """The process is gone, and with it its descriptors."""
        self._open.clear()
        self._running.clear()

    # What was done.

    def _adopt(self, path: str, content: tuple[bytes, int] | None) -> None:
        folder, name = self._find(path)
        target: Inode | Folder
        self.count += 1
        if content is None:
            target = Folder(self.count)
        else:
            data, size = content
            target = Inode(self.count, bytearray(data), size, bytearray(data), size)
            for index in range(-(-len(data) // UNIT)):
                target.print += unit_print(index, unit_of(target.durable, index))
            target.print %= WIDE
        folder.live[name] = folder.durable[name] = target

    def _find(self, path: str) -> tuple[Folder, str]:
        folder = self.root
        *parents, name = path.split("/")
        for parent in parents:
            found = folder.live[parent]
            assert isinstance(found, Folder), path
            folder = found
        return folder, name

    def _opened(self, op: Op) -> None:
        target: Inode | Folder | None = self.root
        if op.path:
            folder, name = self._find(op.path)
            target = folder.live.get(name)
            if target is None:
                assert "O_CREAT" in op.flags, op
                target = Inode(self._next())
                self._entry(folder, name, target, ended=True)
        assert target is not None
        if "O_TRUNC" in op.flags and isinstance(target, Inode) and target.size:
            self._set_size(target, 0)
        if "O_APPEND" in op.flags or "O_TMPFILE" in op.flags:
            raise UnknownCall(f"{op.path} was opened with {op.flags[-80:]}")
        self._open[op.fd] = (target, "O_DSYNC" in op.flags or "O_SYNC" in op.flags, [0])

    def _write(self, op: Op) -> None:
        inode, _, place = self._open[op.fd]
        assert isinstance(inode, Inode), op
        offset = place[0] if op.offset is None else op.offset
        if op.offset is None:
            place[0] = offset + len(op.data)
        end = offset + len(op.data)
        if len(inode.live) < end:
            inode.live.extend(bytes(end - len(inode.live)))
        inode.live[offset:end] = op.data
        items: list[Pending] = []
        if end > inode.size:
            items.append(self._set_size(inode, end, ended=False))
        for index in range(offset // UNIT, -(-end // UNIT)):
            data = unit_of(inode.live, index)
            items.append(Pending(self._next(), "unit", inode, index, data, unit_print(index, data)))
        self.pending += [item for item in items if item.what == "unit"]
        self._running[op.begin] = items

    def _resize(self, op: Op) -> None:
        inode, _, _ = self._open[op.fd]
        assert isinstance(inode, Inode) and op.offset is not None
        if op.flags == "truncate" or op.offset > inode.size:
            self._set_size(inode, op.offset)

    def _set_size(self, inode: Inode, size: int, *, ended: bool = True) -> Pending:
        if size < inode.size:
            # What lies behind reads as zeros if the file grows again, whatever was pending there.
            if inode.durable_size and size:
                raise UnknownCall("a file with content was made shorter, but not empty")
            self.pending = [p for p in self.pending if p.owner is not inode or p.what != "unit"]
            inode.live.clear()
        inode.size = size
        item = Pending(self._next(), "size", inode, size, ended=ended)
        self.pending.append(item)
        return item

    def _name(self, op: Op) -> list[Pending]:
        folder, name = self._find(op.path)
        if op.kind == "mkdir":
            return [self._entry(folder, name, Folder(self._next()))]
        if op.kind != "rename":
            return [self._entry(folder, name, None)]
        target_folder, new = self._find(op.other)
        if target_folder is not folder:
            raise UnknownCall(f"{op.path} was renamed into another folder")
        return [self._entry(folder, new, folder.live[name], old=name)]

    def _entry(
        self,
        folder: Folder,
        name: str,
        target: Inode | Folder | None,
        *,
        old: str = "",
        ended: bool = False,
    ) -> Pending:
        item = Pending(self._next(), "entry", folder, name=name, old=old, target=target)
        item.ended = ended
        self.pending.append(item)
        apply_entry(item, folder.live)
        return item

    def _settle(self, done: list[Pending]) -> None:
        newest = {(id(item.owner), item.what, item.index): item.number for item in done}
        gone = set(map(id, done))
        self.pending = [
            item
            for item in self.pending
            # What a durable unit was before is nowhere any more, whether it was synced or not.
            if id(item) not in gone
            and not (
                item.what == "unit"
                and item.number < newest.get((id(item.owner), "unit", item.index), 0)
            )
        ]
        for item in done:
            owner = item.owner
            if isinstance(owner, Folder):
                apply_entry(item, owner.durable)
            elif item.what == "size":
                owner.durable_size = item.index
                if item.index == 0:
                    owner.durable.clear()
                    owner.print = 0
            else:
                self._settle_unit(owner, item)

    @staticmethod
    def _settle_unit(inode: Inode, item: Pending) -> None:
        begin = item.index * UNIT
        if len(inode.durable) < begin + UNIT:
            inode.durable.extend(bytes(begin + UNIT - len(inode.durable)))
        before = unit_print(item.index, bytes(inode.durable[begin : begin + UNIT]))
        inode.durable[begin : begin + UNIT] = item.data
        inode.print = (inode.print - before + item.print) % WIDE

    def _check_map(self, op: Op) -> None:
        if op.flags == "write" and op.path.rpartition("/")[2] != LOCK_FILE:
            raise UnknownCall(f"{op.path} was mapped to be written, which no log would show")

    def _next(self) -> int:
        self.count += 1
        return self.count
