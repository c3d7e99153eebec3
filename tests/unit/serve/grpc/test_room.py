from __future__ import annotations

from gatesmith.serve.grpc.room import Room


def test_first_come_first_served_and_all_in_the_end() -> None:
    room, served = Room(10), list[str]()
    places = {
        name: room.take(size, lambda name=name: served.append(name))
        for name, size in zip("abcd", (6, 6, 3, 99), strict=True)
    }  # type: ignore[misc]
    assert served == ["a"]  # c would fit, and may not overtake
    room.give_back(places["a"])
    assert served == ["a", "b", "c"]
    room.give_back(places["c"])
    room.give_back(places["c"])
    assert served == ["a", "b", "c"]
    room.give_back(places["b"])
    assert served == ["a", "b", "c", "d"]  # larger than the room: it gets all of it


def test_who_leaves_the_queue_lets_others_go() -> None:
    room, served = Room(10), list[str]()
    first = room.take(9, lambda: served.append("first"))
    large = room.take(5, lambda: served.append("large"))
    room.take(1, lambda: served.append("small"))
    room.give_back(large)
    assert served == ["first", "small"]
    room.give_back(first)
    room.take(9, lambda: served.append("last"))
    assert served == ["first", "small", "last"]
