"""Background work rests while people click, and only then."""

from __future__ import annotations

from backend.learning.courtesy import Courtesy


class World:
    """A clock that only moves by work and sleep, and a count of clicks."""

    def __init__(self) -> None:
        self.now, self.clicks, self.slept = 0.0, 0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_it_rests_in_proportion_to_its_work_while_somebody_clicks() -> None:
    world = World()
    courtesy = Courtesy(lambda: world.clicks, clock=lambda: world.now, sleep=world.sleep)
    for seconds, clicked in ((0.1, False), (0.1, True), (0.2, True), (5.0, True), (0.1, False)):
        world.now += seconds
        world.clicks += clicked
        courtesy.rest()
    # Rests are no work: each is measured from the end of the one before, and none is endless.
    assert [round(one, 6) for one in world.slept] == [0.3, 0.6, 2.0]


def test_a_click_during_a_rest_asks_for_another_one() -> None:
    world = World()

    def clicked_meanwhile(seconds: float) -> None:
        world.sleep(seconds)
        world.clicks += 1

    courtesy = Courtesy(lambda: world.clicks, clock=lambda: world.now, sleep=clicked_meanwhile)
    world.clicks += 1
    for _ in range(3):
        world.now += 0.1
        courtesy.rest()
    assert len(world.slept) == 3
