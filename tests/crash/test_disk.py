"""The model of the disk, on operations written by hand."""

from __future__ import annotations

import pytest

from tests.crash.disk import Disk
from tests.crash.images import image_of
from tests.crash.inodes import UNIT, Pending
from tests.crash.recording import Op, UnknownCall

RW, DSYNC = "O_RDWR|O_CREAT", "O_WRONLY|O_DSYNC"


class Hand:
    """Does things in order, each ending before the next begins unless told otherwise."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.place = 0

    def op(self, kind: str, path: str = "", **more: object) -> Op:
        self.place += 2
        return Op(self.place, self.place + 1, kind, path, **more)  # type: ignore[arg-type]  # as told

    def do(self, kind: str, path: str = "", **more: object) -> None:
        op = self.op(kind, path, **more)
        self.disk.begin(op) if kind not in ("open", "close", "resize", "map", "seek") else None
        self.disk.end(op)

    def file(self, path: str = "f", fd: int = 4) -> None:
        """A file whose name and size of four units are surely there."""
        self.do("open", path, fd=fd, flags=RW)
        self.do("resize", path, fd=fd, offset=4 * UNIT, flags="extend")
        self.do("open", fd=9, flags="O_RDONLY")
        self.do("sync", fd=9)
        self.do("sync", path, fd=fd)

    def write(self, unit: int, text: bytes, fd: int = 4) -> Op:
        return self.op("write", "f", fd=fd, offset=unit * UNIT, data=text * UNIT)

    def contents(self, *choices: list[Pending]) -> list[bytes]:
        """The first byte of each unit of ``f``, for each choice."""
        found = []
        for chosen in choices:
            content = image_of(self.disk.root, chosen).files["f"]
            assert content is not None
            padded = content[0].ljust(content[1], b"\0")[: content[1]]
            found.append(padded[::UNIT].replace(b"\0", b"."))
        return found


def test_any_part_of_what_is_not_synced_may_be_there() -> None:
    hand = Hand()
    hand.file()
    hand.do("write", "f", fd=4, offset=0, data=b"a" * 2 * UNIT)
    first, second = hand.disk.pending

    assert hand.contents([], [first], [second], [first, second]) == [
        b"....", b"a...", b".a..", b"aa..",
    ]  # fmt: skip


def test_what_was_synced_is_there() -> None:
    hand = Hand()
    hand.file()
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("sync", "f", fd=4)

    assert hand.disk.pending == []
    assert hand.contents([]) == [b"a..."]


def test_a_write_is_pending_as_soon_as_it_begins() -> None:
    hand = Hand()
    hand.file()
    hand.disk.begin(hand.write(1, b"a"))

    assert hand.contents([], hand.disk.pending) == [b"....", b".a.."]


def test_a_sync_that_began_before_a_write_ended_does_not_cover_it() -> None:
    hand = Hand()
    hand.file()
    write = hand.write(0, b"a")
    sync = hand.op("sync", "f", fd=4)
    hand.disk.begin(write)
    hand.disk.begin(sync)
    hand.disk.end(write)
    hand.disk.end(sync)

    assert len(hand.disk.pending) == 1


def test_a_synced_write_is_pending_until_it_returns() -> None:
    hand = Hand()
    hand.file()
    hand.do("open", "f", fd=5, flags=DSYNC)
    write = hand.write(2, b"m", fd=5)
    hand.disk.begin(write)

    assert hand.contents([], hand.disk.pending) == [b"....", b"..m."]
    hand.disk.end(write)
    assert hand.disk.pending == []
    assert hand.contents([]) == [b"..m."]


def test_a_synced_write_says_nothing_of_others() -> None:
    hand = Hand()
    hand.file()
    hand.do("open", "f", fd=5, flags=DSYNC)
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("write", "f", fd=5, offset=UNIT, data=b"m" * UNIT)

    assert hand.contents([], hand.disk.pending) == [b".m..", b"am.."]


def test_of_a_unit_written_twice_any_version_may_be_there() -> None:
    hand = Hand()
    hand.file()
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("write", "f", fd=4, offset=0, data=b"b" * UNIT)
    first, second = hand.disk.pending

    assert hand.contents([], [first], [second], [first, second]) == [
        b"....", b"a...", b"b...", b"b...",
    ]  # fmt: skip


def test_what_a_durable_unit_was_before_is_nowhere_any_more() -> None:
    hand = Hand()
    hand.file()
    hand.do("open", "f", fd=5, flags=DSYNC)
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("write", "f", fd=5, offset=0, data=b"b" * UNIT)

    assert hand.disk.pending == []
    assert hand.contents([]) == [b"b..."]


def test_a_write_of_a_part_leaves_the_rest_of_its_unit() -> None:
    hand = Hand()
    hand.file()
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("sync", "f", fd=4)
    hand.do("write", "f", fd=4, offset=10, data=b"bc")
    (item,) = hand.disk.pending

    assert item.data == b"a" * 10 + b"bc" + b"a" * (UNIT - 12)


def test_what_lies_beyond_the_size_that_survived_is_not_there() -> None:
    hand = Hand()
    hand.file()
    hand.do("write", "f", fd=4, offset=5 * UNIT, data=b"a" * UNIT)
    size, unit = hand.disk.pending

    assert hand.contents([unit], [size], [size, unit]) == [b"....", b"......", b".....a"]


def test_a_write_goes_where_the_file_stands() -> None:
    hand = Hand()
    hand.file()
    hand.do("seek", "f", fd=4, offset=UNIT)
    hand.do("write", "f", fd=4, data=b"a" * UNIT)
    hand.do("write", "f", fd=4, data=b"b" * UNIT)

    assert hand.contents(hand.disk.pending) == [b".ab."]


def test_a_name_is_pending_until_its_folder_is_synced() -> None:
    hand = Hand()
    hand.do("open", "f", fd=4, flags=RW)
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("sync", "f", fd=4)

    assert image_of(hand.disk.root, []).files == {}
    hand.do("open", fd=9, flags="O_RDONLY")
    hand.do("sync", fd=9)
    assert hand.contents([]) == [b"a"]


def test_a_rename_is_there_whole_or_not_at_all() -> None:
    hand = Hand()
    hand.file("old")
    hand.do("rename", "old", other="f")
    (rename,) = hand.disk.pending

    assert set(image_of(hand.disk.root, []).files) == {"old"}
    assert set(image_of(hand.disk.root, [rename]).files) == {"f"}


def test_a_renamed_folder_has_what_of_its_names_survived() -> None:
    hand = Hand()
    hand.do("mkdir", "new")
    hand.do("open", "new/data", fd=4, flags=RW)
    hand.do("rename", "new", other="store")
    made, data, renamed = hand.disk.pending

    assert set(image_of(hand.disk.root, [made, renamed]).files) == {"store"}
    assert set(image_of(hand.disk.root, [renamed, data]).files) == {"store", "store/data"}
    assert set(image_of(hand.disk.root, [made, data]).files) == {"new", "new/data"}
    assert set(image_of(hand.disk.root, [data]).files) == set()


def test_a_removed_name_may_come_back() -> None:
    hand = Hand()
    hand.file()
    hand.do("unlink", "f")
    (removal,) = hand.disk.pending

    assert set(image_of(hand.disk.root, []).files) == {"f"}
    assert set(image_of(hand.disk.root, [removal]).files) == set()


def test_equal_images_have_equal_hashes_however_they_came_about() -> None:
    hand = Hand()
    hand.file()
    hand.do("write", "f", fd=4, offset=0, data=b"a" * UNIT)
    hand.do("write", "f", fd=4, offset=0, data=bytes(UNIT))
    hand.do("write", "f", fd=4, offset=UNIT, data=b"a" * UNIT)
    first, undone, second = hand.disk.pending
    hashes = [
        image_of(hand.disk.root, chosen).hash
        for chosen in ([], [undone], [first, undone], [first], [second], [first, undone, second])
    ]

    assert hashes[0] == hashes[1] == hashes[2]
    assert hashes[4] == hashes[5]
    assert len(set(hashes)) == 3


def test_a_file_that_is_mapped_to_be_written_is_refused() -> None:
    hand = Hand()
    hand.file()

    with pytest.raises(UnknownCall):
        hand.do("map", "f", fd=4, flags="write")
